//! Events of libvirt: the callbacks that its C library calls, and what they hand on.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_int, c_ulonglong, c_void};
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;

use virt_sys as sys;

use super::{Connect, Domain, Uuid, VirError, lent, uuid_of};

/// Takes events of domains.
pub(crate) type Take = Arc<dyn Fn(Uuid, VirEvent) + Send + Sync>;

/// An event of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum VirEvent {
    /// It was started, stopped, suspended ... with libvirt's numbers.
    Lifecycle { event: u32, detail: u32 },
    /// A threshold of an image fired.
    Threshold { image: String, threshold: u64, excess: u64 },
    /// A block job of a disk ended or is ready.
    Job { disk: String, kind: u32, status: u32 },
    /// The error of a disk, by its alias, stopped the domain.
    IoError { alias: String, no_space: bool },
    /// Something was plugged, unplugged or changed, or a job of the domain ended.
    Changed,
    /// It is being migrated.
    Migrates,
}

/// Events that are being taken.
pub(crate) struct Listener {
    connect: Arc<Connect>,
    ids: Vec<c_int>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        for id in self.ids.drain(..) {
            // SAFETY: the connection is open, and the number is that of a callback of it.
            let _ = unsafe { sys::virConnectDomainEventDeregisterAny(self.connect.0.as_ptr(), id) };
        }
    }
}

impl Connect {
    /// Hands events to `take`, on the thread of events, until the result is dropped: all of one
    /// domain, or when any domain is started, stopped and the like.
    pub(crate) fn listen(
        self: &Arc<Self>,
        domain: Option<&Domain>,
        take: Take,
    ) -> Result<Listener, VirError> {
        let mut listener = Listener { connect: Arc::clone(self), ids: Vec::new() };
        let of = domain.map_or(null_mut(), |domain| domain.0.as_ptr());
        let nr = if domain.is_some() { usize::MAX } else { 1 };
        for (event, callback) in callbacks().into_iter().take(nr) {
            let opaque = Box::into_raw(Box::new(Arc::clone(&take)));
            // SAFETY: connection and domain are valid, or there is no domain. The callback is one for
            // this event; it is given a `Take` that `free_take` frees when libvirt needs it no more.
            let id = unsafe {
                sys::virConnectDomainEventRegisterAny(
                    self.0.as_ptr(),
                    of,
                    event,
                    Some(callback),
                    opaque.cast(),
                    Some(free_take),
                )
            };
            if id < 0 {
                // SAFETY: libvirt did not take it.
                drop(unsafe { Box::from_raw(opaque) });
                // What a driver does not have does not come.
                if event == id_of(sys::VIR_DOMAIN_EVENT_ID_LIFECYCLE) {
                    return Err(VirError::last());
                }
                continue;
            }
            listener.ids.push(id);
        }
        Ok(listener)
    }
}

/// A callback of whatever event.
type Generic = unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *mut c_void);
type OnLifecycle =
    extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, c_int, c_int, *mut c_void) -> c_int;
type OnThreshold = extern "C" fn(
    sys::virConnectPtr,
    sys::virDomainPtr,
    *const c_char,
    *const c_char,
    c_ulonglong,
    c_ulonglong,
    *mut c_void,
);
type OnJob =
    extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *const c_char, c_int, c_int, *mut c_void);
type OnIoError = extern "C" fn(
    sys::virConnectPtr,
    sys::virDomainPtr,
    *const c_char,
    *const c_char,
    c_int,
    *const c_char,
    *mut c_void,
);
type OnParams = extern "C" fn(
    sys::virConnectPtr,
    sys::virDomainPtr,
    sys::virTypedParameterPtr,
    c_int,
    *mut c_void,
);
type OnIteration = extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, c_int, *mut c_void);
type OnAlias = extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *const c_char, *mut c_void);

/// The number of an event, as libvirt's function takes it.
fn id_of(event: sys::virDomainEventID) -> c_int {
    c_int::try_from(event).unwrap_or(c_int::MAX)
}

/// The events that are listened for, each with its callback.
fn callbacks() -> [(c_int, Generic); 9] {
    // SAFETY: libvirt calls it with the arguments of its own type, which the event decides.
    let lifecycle = unsafe { std::mem::transmute::<OnLifecycle, Generic>(on_lifecycle) };
    // SAFETY: as above.
    let threshold = unsafe { std::mem::transmute::<OnThreshold, Generic>(on_threshold) };
    // SAFETY: as above.
    let job = unsafe { std::mem::transmute::<OnJob, Generic>(on_job) };
    // SAFETY: as above.
    let io_error = unsafe { std::mem::transmute::<OnIoError, Generic>(on_io_error) };
    // SAFETY: as above; added and removed devices have the same arguments.
    let device = unsafe { std::mem::transmute::<OnAlias, Generic>(on_device) };
    // SAFETY: as above; changed limits and ended jobs have the same arguments.
    let params = unsafe { std::mem::transmute::<OnParams, Generic>(on_params) };
    // SAFETY: as above.
    let iteration = unsafe { std::mem::transmute::<OnIteration, Generic>(on_iteration) };
    [
        (id_of(sys::VIR_DOMAIN_EVENT_ID_LIFECYCLE), lifecycle),
        (id_of(sys::VIR_DOMAIN_EVENT_ID_BLOCK_THRESHOLD), threshold),
        (id_of(sys::VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2), job),
        (id_of(sys::VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON), io_error),
        (id_of(sys::VIR_DOMAIN_EVENT_ID_DEVICE_ADDED), device),
        (id_of(sys::VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED), device),
        (id_of(sys::VIR_DOMAIN_EVENT_ID_TUNABLE), params),
        (id_of(sys::VIR_DOMAIN_EVENT_ID_JOB_COMPLETED), params),
        (id_of(sys::VIR_DOMAIN_EVENT_ID_MIGRATION_ITERATION), iteration),
    ]
}

/// Hands an event of a domain to who listens.
fn tell(domain: sys::virDomainPtr, opaque: *mut c_void, event: VirEvent) {
    let Some(domain) = NonNull::new(domain) else { return };
    let Some(take) = NonNull::new(opaque.cast::<Take>()) else { return };
    let Some(uuid) = uuid_of(domain) else { return };
    // SAFETY: `listen` registered it as a `Take`, which lives until `free_take`.
    let take = unsafe { take.as_ref() };
    take(uuid, event);
}

extern "C" fn on_lifecycle(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    event: c_int,
    detail: c_int,
    opaque: *mut c_void,
) -> c_int {
    let number = |n: c_int| u32::try_from(n).unwrap_or(u32::MAX);
    tell(domain, opaque, VirEvent::Lifecycle { event: number(event), detail: number(detail) });
    0
}

extern "C" fn on_threshold(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    image: *const c_char,
    _: *const c_char,
    threshold: c_ulonglong,
    excess: c_ulonglong,
    opaque: *mut c_void,
) {
    // SAFETY: a text of the event, which libvirt frees after the call.
    let Some(image) = (unsafe { lent(image) }) else { return };
    tell(domain, opaque, VirEvent::Threshold { image, threshold, excess });
}

extern "C" fn on_job(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    disk: *const c_char,
    kind: c_int,
    status: c_int,
    opaque: *mut c_void,
) {
    // SAFETY: a text of the event, which libvirt frees after the call.
    let Some(disk) = (unsafe { lent(disk) }) else { return };
    let number = |n: c_int| u32::try_from(n).unwrap_or(u32::MAX);
    tell(domain, opaque, VirEvent::Job { disk, kind: number(kind), status: number(status) });
}

extern "C" fn on_io_error(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    _: *const c_char,
    alias: *const c_char,
    _: c_int,
    reason: *const c_char,
    opaque: *mut c_void,
) {
    // SAFETY: a text of the event, which libvirt frees after the call.
    let alias = unsafe { lent(alias) }.unwrap_or_default();
    // SAFETY: as above.
    let no_space = unsafe { lent(reason) }.is_some_and(|reason| reason == "enospc");
    tell(domain, opaque, VirEvent::IoError { alias, no_space });
}

extern "C" fn on_device(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    _: *const c_char,
    opaque: *mut c_void,
) {
    tell(domain, opaque, VirEvent::Changed);
}

extern "C" fn on_params(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    _: sys::virTypedParameterPtr,
    _: c_int,
    opaque: *mut c_void,
) {
    tell(domain, opaque, VirEvent::Changed);
}

extern "C" fn on_iteration(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    _: c_int,
    opaque: *mut c_void,
) {
    tell(domain, opaque, VirEvent::Migrates);
}

extern "C" fn free_take(opaque: *mut c_void) {
    if !opaque.is_null() {
        // SAFETY: `listen` made it from a box of a `Take`, and libvirt frees it once.
        drop(unsafe { Box::from_raw(opaque.cast::<Take>()) });
    }
}
