//! The calls of libvirt's C library that the source makes, as types that own what libvirt counts.
//!
//! libvirt's objects may be used by several threads at once: each has a lock, and its last error
//! belongs to the calling thread. A call blocks until libvirtd has answered, however long that
//! takes; [`super::worker`] makes them on threads that nobody waits for.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::fmt::{self, Debug, Formatter};
use std::mem::MaybeUninit;
use std::ptr::{NonNull, null_mut};
use std::sync::OnceLock;
use std::time::Duration;

use virt_sys as sys;

mod events;

pub(crate) use events::{Listener, Take, VirEvent};

/// Most limits of a disk that are asked for: libvirt 9.0 has 20, and its protocol refuses more than 32.
const MAX_TUNES: usize = 32;

/// A UUID in textual byte order.
pub(crate) type Uuid = [u8; 16];

/// An error of libvirt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct VirError {
    code: u32,
    message: String,
}

impl VirError {
    /// The last error of this thread.
    fn last() -> Self {
        // SAFETY: the call has no argument; the error that it returns belongs to this thread.
        let error = NonNull::new(unsafe { sys::virGetLastError() });
        let Some(error) = error else { return Self::new(0, "libvirt gives no reason") };
        // SAFETY: it is valid until the thread's next call of libvirt, and none is made here.
        let error = unsafe { error.as_ref() };
        let message = match NonNull::new(error.message) {
            None => String::new(),
            // SAFETY: the message of a valid error ends in a NUL and lives as long as it.
            Some(text) => unsafe { CStr::from_ptr(text.as_ptr()) }.to_string_lossy().into_owned(),
        };
        Self { code: u32::try_from(error.code).unwrap_or(0), message }
    }

    fn new(code: u32, message: &str) -> Self {
        Self { code, message: message.to_owned() }
    }

    /// The domain does not run.
    pub(crate) fn no_domain() -> Self {
        Self::new(sys::VIR_ERR_NO_DOMAIN, "the domain does not run")
    }

    /// Whether libvirt knows no such domain, or it does not run.
    pub(crate) const fn is_no_domain(&self) -> bool {
        self.code == sys::VIR_ERR_NO_DOMAIN
    }

    /// Whether the connection may not do it: it is read-only, or a policy forbids it.
    pub(crate) const fn is_denied(&self) -> bool {
        matches!(self.code, sys::VIR_ERR_OPERATION_DENIED | sys::VIR_ERR_ACCESS_DENIED)
    }

    /// Whether the state of the domain or of the disk does not allow it.
    pub(crate) const fn is_invalid_now(&self) -> bool {
        self.code == sys::VIR_ERR_OPERATION_INVALID
    }
}

/// A text for libvirt, which ends at its first NUL.
fn c_text(text: &str) -> Result<CString, VirError> {
    CString::new(text).map_err(|_| VirError::new(sys::VIR_ERR_INVALID_ARG, "a name holds a NUL"))
}

fn checked(returned: c_int) -> Result<c_int, VirError> {
    if returned < 0 { Err(VirError::last()) } else { Ok(returned) }
}

/// A text that libvirt lends; what is not UTF-8 is replaced.
///
/// # Safety
/// `text` is null or ends in a NUL, and stays for the length of the call.
unsafe fn lent(text: *const c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: it is not null; the caller vouches for the rest.
    Some(unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}

/// Prints nothing: every caller is given its error.
extern "C" fn silent(_: *mut c_void, _: sys::virErrorPtr) {}

/// Has one thread of the process take what libvirtd sends unasked; before the first connection.
fn run_events() -> Result<(), VirError> {
    static RUNS: OnceLock<Result<(), VirError>> = OnceLock::new();
    RUNS.get_or_init(|| {
        // SAFETY: libvirt calls the function with an error of its own, which it ignores.
        unsafe { sys::virSetErrorFunc(null_mut(), Some(silent)) };
        // SAFETY: the call has no argument, and `OnceLock` makes it once.
        checked(unsafe { sys::virEventRegisterDefaultImpl() })?;
        let run = || loop {
            // SAFETY: the implementation is registered, and no other thread runs it.
            if unsafe { sys::virEventRunDefaultImpl() } < 0 {
                std::thread::sleep(Duration::from_millis(100));
            }
        };
        let thread = std::thread::Builder::new().name("domstat-virt-ev".to_owned()).spawn(run);
        thread.map(drop).map_err(|e| VirError::new(0, &format!("cannot start a thread: {e}")))
    })
    .clone()
}

/// A connection to libvirt.
pub(crate) struct Connect(NonNull<sys::virConnect>);

// SAFETY: libvirt's connections have a lock of their own and belong to no thread.
unsafe impl Send for Connect {}
// SAFETY: as above: calls from several threads at once are allowed.
unsafe impl Sync for Connect {}

impl Drop for Connect {
    fn drop(&mut self) {
        // SAFETY: the reference is this value's own, and is not used any more.
        let _ = unsafe { sys::virConnectClose(self.0.as_ptr()) };
    }
}

/// A domain as libvirt lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) uuid: Uuid,
    pub(crate) name: String,
}

impl Connect {
    /// Connects to libvirt at `uri`.
    pub(crate) fn open(uri: &str, read_only: bool) -> Result<Self, VirError> {
        run_events()?;
        let uri = c_text(uri)?;
        let opened = if read_only {
            // SAFETY: the text ends in a NUL and outlives the call.
            unsafe { sys::virConnectOpenReadOnly(uri.as_ptr()) }
        } else {
            // SAFETY: as above.
            unsafe { sys::virConnectOpen(uri.as_ptr()) }
        };
        let connect = Self(NonNull::new(opened).ok_or_else(VirError::last)?);
        // Drivers without a daemon need none and refuse.
        // SAFETY: the connection is open.
        let _ = unsafe { sys::virConnectSetKeepAlive(connect.0.as_ptr(), 5, 3) };
        Ok(connect)
    }

    /// Whether the connection still stands, as far as this process knows: libvirtd is not asked.
    pub(crate) fn is_alive(&self) -> bool {
        // SAFETY: the connection is open.
        unsafe { sys::virConnectIsAlive(self.0.as_ptr()) == 1 }
    }

    /// The domains that run.
    pub(crate) fn running(&self) -> Result<Vec<Listed>, VirError> {
        let mut list: *mut sys::virDomainPtr = null_mut();
        let flags = sys::VIR_CONNECT_LIST_DOMAINS_ACTIVE;
        // SAFETY: the connection is open, and `list` takes an array.
        let nr = unsafe { sys::virConnectListAllDomains(self.0.as_ptr(), &raw mut list, flags) };
        let nr = usize::try_from(checked(nr)?).unwrap_or(0);
        let mut domains = Vec::new();
        for index in 0..nr {
            // SAFETY: the array has `nr` entries.
            let at = unsafe { list.add(index) };
            // SAFETY: each is a domain, whose reference is ours from here on.
            let domain = unsafe { at.read() };
            domains.extend(NonNull::new(domain).map(Domain));
        }
        // SAFETY: libvirt allocated the array by malloc, and its domains have owners now.
        unsafe { libc::free(list.cast()) };
        Ok(domains.iter().filter_map(Domain::listed).collect())
    }

    /// The domain of this UUID.
    pub(crate) fn domain(&self, uuid: &Uuid) -> Result<Domain, VirError> {
        // SAFETY: the connection is open, and a UUID has the 16 bytes that are read.
        let found = unsafe { sys::virDomainLookupByUUID(self.0.as_ptr(), uuid.as_ptr()) };
        NonNull::new(found).map(Domain).ok_or_else(VirError::last)
    }
}

fn uuid_of(domain: NonNull<sys::virDomain>) -> Option<Uuid> {
    let mut uuid = Uuid::default();
    // SAFETY: the domain is valid, and a UUID has the 16 bytes that are written.
    let got = unsafe { sys::virDomainGetUUID(domain.as_ptr(), uuid.as_mut_ptr()) };
    (got == 0).then_some(uuid)
}

/// A domain of a connection.
pub(crate) struct Domain(NonNull<sys::virDomain>);

// SAFETY: libvirt's domains are constant but for their counts, which have a lock.
unsafe impl Send for Domain {}

impl Debug for Domain {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Domain").finish()
    }
}

impl Drop for Domain {
    fn drop(&mut self) {
        // SAFETY: the reference is this value's own, and is not used any more.
        let _ = unsafe { sys::virDomainFree(self.0.as_ptr()) };
    }
}

/// A value of a statistic.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Param {
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Bool(bool),
    Text(String),
}

/// What every driver knows of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Info {
    pub(crate) max_memory_kib: u64,
    pub(crate) memory_kib: u64,
    pub(crate) vcpus: u32,
    /// Its CPU time.
    pub(crate) cpu_ns: u64,
}

/// A block job that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct JobInfo {
    /// virDomainBlockJobType.
    pub(crate) kind: u32,
    /// Its limit in bytes per second; 0 is none.
    pub(crate) limit: u64,
    pub(crate) cur: u64,
    pub(crate) end: u64,
}

impl Domain {
    /// How libvirt lists it.
    pub(crate) fn listed(&self) -> Option<Listed> {
        Some(Listed { uuid: uuid_of(self.0)?, name: self.name()? })
    }

    fn name(&self) -> Option<String> {
        // SAFETY: the domain is valid.
        let name = unsafe { sys::virDomainGetName(self.0.as_ptr()) };
        // SAFETY: it lives as long as the domain.
        unsafe { lent(name) }
    }

    /// libvirt's number for it, while it runs.
    pub(crate) fn id(&self) -> Option<u32> {
        // SAFETY: the domain is valid.
        let id = unsafe { sys::virDomainGetID(self.0.as_ptr()) };
        (id != c_uint::MAX).then_some(id)
    }

    /// Its description.
    pub(crate) fn xml(&self) -> Result<String, VirError> {
        // SAFETY: the domain is valid.
        let xml = unsafe { sys::virDomainGetXMLDesc(self.0.as_ptr(), 0) };
        // SAFETY: it is null or ends in a NUL, and is freed below.
        let text = unsafe { lent(xml) };
        // SAFETY: libvirt allocated it by malloc; null is allowed.
        unsafe { libc::free(xml.cast()) };
        text.ok_or_else(VirError::last)
    }

    /// What every driver knows of a domain.
    pub(crate) fn info(&self) -> Result<Info, VirError> {
        let mut info =
            sys::_virDomainInfo { state: 0, maxMem: 0, memory: 0, nrVirtCpu: 0, cpuTime: 0 };
        // SAFETY: the domain is valid, and `info` is of the type that is written.
        checked(unsafe { sys::virDomainGetInfo(self.0.as_ptr(), &raw mut info) })?;
        Ok(Info {
            max_memory_kib: info.maxMem,
            memory_kib: info.memory,
            vcpus: info.nrVirtCpu.into(),
            cpu_ns: info.cpuTime,
        })
    }

    /// Statistics of these groups (virDomainStatsTypes), by libvirt's names.
    pub(crate) fn stats(&self, groups: u32, flags: u32) -> Result<Vec<(String, Param)>, VirError> {
        let mut domains = [self.0.as_ptr(), null_mut()];
        let mut records: *mut sys::virDomainStatsRecordPtr = null_mut();
        // SAFETY: the array of domains ends in a null, and `records` takes one.
        let nr = unsafe {
            sys::virDomainListGetStats(domains.as_mut_ptr(), groups, &raw mut records, flags)
        };
        let nr = checked(nr)?;
        let mut stats = Vec::new();
        if nr > 0 {
            // SAFETY: there is at least one record, which lives until the list is freed.
            let record = unsafe { records.read() };
            // SAFETY: as above.
            let record = unsafe { record.as_ref() };
            stats.extend(record.into_iter().flat_map(params_of));
        }
        // SAFETY: the list is libvirt's, and nothing of it is used any more.
        unsafe { sys::virDomainStatsRecordListFree(records) };
        Ok(stats)
    }

    /// Arms a threshold in bytes on an image; 0 disarms it.
    pub(crate) fn set_threshold(&self, image: &str, threshold: u64) -> Result<(), VirError> {
        let image = c_text(image)?;
        // SAFETY: the domain is valid, and the text ends in a NUL and outlives the call.
        let set = unsafe {
            sys::virDomainSetBlockThreshold(self.0.as_ptr(), image.as_ptr(), threshold, 0)
        };
        checked(set).map(drop)
    }

    /// Has the job of a disk canceled and does not wait for its end.
    pub(crate) fn abort_job(&self, disk: &str) -> Result<(), VirError> {
        let (disk, flags) = (c_text(disk)?, sys::VIR_DOMAIN_BLOCK_JOB_ABORT_ASYNC);
        // SAFETY: the domain is valid, and the text ends in a NUL and outlives the call.
        let done = unsafe { sys::virDomainBlockJobAbort(self.0.as_ptr(), disk.as_ptr(), flags) };
        checked(done).map(drop)
    }

    /// The job of a disk.
    pub(crate) fn job(&self, disk: &str) -> Result<Option<JobInfo>, VirError> {
        let disk = c_text(disk)?;
        let flags = sys::VIR_DOMAIN_BLOCK_JOB_INFO_BANDWIDTH_BYTES;
        let mut info = sys::_virDomainBlockJobInfo { type_: 0, bandwidth: 0, cur: 0, end: 0 };
        // SAFETY: the domain is valid, the text ends in a NUL and outlives the call, and `info`
        // is of the type that is written.
        let found = unsafe {
            sys::virDomainGetBlockJobInfo(self.0.as_ptr(), disk.as_ptr(), &raw mut info, flags)
        };
        Ok((checked(found)? > 0).then(|| JobInfo {
            kind: u32::try_from(info.type_).unwrap_or(0),
            limit: info.bandwidth,
            cur: info.cur,
            end: info.end,
        }))
    }

    /// Limits of a disk, by libvirt's names.
    pub(crate) fn io_tune(&self, disk: &str) -> Result<Vec<(String, Param)>, VirError> {
        let disk = c_text(disk)?;
        let mut params: [MaybeUninit<sys::virTypedParameter>; MAX_TUNES] =
            [const { MaybeUninit::zeroed() }; MAX_TUNES];
        let mut nr = c_int::try_from(MAX_TUNES).unwrap_or(0);
        let at = params.as_mut_ptr().cast();
        // SAFETY: the domain is valid, the text ends in a NUL and outlives the call, and `params` has
        // room for as many as `nr` says, which is their number after the call.
        checked(unsafe {
            sys::virDomainGetBlockIoTune(self.0.as_ptr(), disk.as_ptr(), at, &raw mut nr, 0)
        })?;
        let nr = nr.clamp(0, c_int::try_from(MAX_TUNES).unwrap_or(0));
        // SAFETY: the array has as many, each is valid as libvirt wrote it or when it is zero.
        let list = unsafe { params_at(at, nr) };
        // SAFETY: as above; texts of theirs are not used any more.
        unsafe { sys::virTypedParamsClear(at, nr) };
        Ok(list)
    }

    /// The job of the domain itself, for example a migration: virDomainJobType, and its statistics by
    /// libvirt's names.
    pub(crate) fn job_stats(&self) -> Result<(u32, Vec<(String, Param)>), VirError> {
        let (mut kind, mut nr): (c_int, c_int) = (0, 0);
        let mut params: sys::virTypedParameterPtr = null_mut();
        // SAFETY: the domain is valid, and the pointers are to values of the types that are written.
        checked(unsafe {
            sys::virDomainGetJobStats(
                self.0.as_ptr(),
                &raw mut kind,
                &raw mut params,
                &raw mut nr,
                0,
            )
        })?;
        // SAFETY: libvirt counts the parameters, which live until they are freed below.
        let list = unsafe { params_at(params, nr) };
        // SAFETY: they are libvirt's, and nothing of them is used any more; null is allowed.
        unsafe { sys::virTypedParamsFree(params, nr) };
        Ok((u32::try_from(kind).unwrap_or(0), list))
    }
}

/// Names and values of a record.
fn params_of(record: &sys::_virDomainStatsRecord) -> Vec<(String, Param)> {
    // SAFETY: libvirt counts the parameters of a record, which live as long as it.
    unsafe { params_at(record.params, record.nparams) }
}

/// Names and values.
///
/// # Safety
/// `params` is null, or points to `nr` valid parameters that stay for the length of the call.
unsafe fn params_at(params: *const sys::virTypedParameter, nr: c_int) -> Vec<(String, Param)> {
    let nr = usize::try_from(nr).unwrap_or(0);
    if params.is_null() {
        return Vec::new();
    }
    // SAFETY: it is not null; the caller vouches for the rest.
    let params = unsafe { std::slice::from_raw_parts(params, nr) };
    params.iter().filter_map(param_of).collect()
}

fn param_of(param: &sys::virTypedParameter) -> Option<(String, Param)> {
    // SAFETY: libvirt ends the name in a NUL within the field.
    let name = unsafe { lent(param.field.as_ptr()) }?;
    let value = &param.value;
    let value = match u32::try_from(param.type_).ok()? {
        // SAFETY: the type says which member is valid.
        sys::VIR_TYPED_PARAM_INT => Param::Signed(unsafe { value.i }.into()),
        // SAFETY: as above.
        sys::VIR_TYPED_PARAM_UINT => Param::Unsigned(unsafe { value.ui }.into()),
        // SAFETY: as above.
        sys::VIR_TYPED_PARAM_LLONG => Param::Signed(unsafe { value.l }),
        // SAFETY: as above.
        sys::VIR_TYPED_PARAM_ULLONG => Param::Unsigned(unsafe { value.ul }),
        // SAFETY: as above.
        sys::VIR_TYPED_PARAM_DOUBLE => Param::Float(unsafe { value.d }),
        // SAFETY: as above.
        sys::VIR_TYPED_PARAM_BOOLEAN => Param::Bool(unsafe { value.b } != 0),
        sys::VIR_TYPED_PARAM_STRING => {
            // SAFETY: as above.
            let text = unsafe { value.s };
            // SAFETY: a text of the parameter, which lives as long as it.
            Param::Text(unsafe { lent(text) }?)
        }
        _ => return None,
    };
    Some((name, value))
}
