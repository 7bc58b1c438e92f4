//! Threads of a running micro-VM: one for each vCPU, one for each queue of its disk, and one that
//! kicks vCPUs.

use std::io;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use domstat_layout::sink::BlkShareSink;
use vmm_sys_util::signal::{Killable, SIGRTMIN, register_signal_handler};

use super::disk::{NR_QUEUES, Queue, QueueThread};
use super::kernel_irqchip::{SAMPLING, Sample};
use super::shared::VcpuShared;
use super::vcpu::REFRESH_NS;
use crate::host::thread_id;
use crate::threads::Role;

/// How often vCPUs are kicked out of KVM_RUN until they have stopped. A signal that arrives
/// between the look at `stop` and KVM_RUN is lost; the next one is not.
const STOP_KICK: Duration = Duration::from_millis(1);

/// Why a vCPU stopped without being asked to.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) vcpu: usize,
    pub(super) source: io::Error,
}

/// State that the threads share.
#[derive(Debug, Default)]
struct Control {
    state: Mutex<ControlState>,
    changed: Condvar,
    /// The id of the thread that kicks.
    kicker: AtomicI32,
}

#[derive(Debug, Default)]
struct ControlState {
    stop: bool,
    failure: Option<Failure>,
}

/// The running threads. Dropping it stops them.
pub(super) struct Threads {
    vcpus: Arc<[Arc<VcpuShared>]>,
    control: Arc<Control>,
    kicker: Option<JoinHandle<()>>,
    queues: Arc<[Queue; NR_QUEUES]>,
    queue_threads: Vec<JoinHandle<()>>,
}

/// What the thread of a vCPU does.
pub(super) type Body = Box<dyn FnOnce() -> io::Result<()> + Send>;

impl Threads {
    /// Starts a thread for each vCPU and for each queue. With a sampler, vCPUs are left in KVM_RUN and
    /// sampled instead.
    pub(super) fn start<Q: BlkShareSink + 'static>(
        vcpus: Arc<[Arc<VcpuShared>]>,
        bodies: Vec<Body>,
        sampler: Option<Box<dyn Sample>>,
        queues: Arc<[Queue; NR_QUEUES]>,
        queue_bodies: Vec<QueueThread<Q>>,
    ) -> io::Result<Self> {
        let control = Arc::new(Control::default());
        let handles = Arc::new(Mutex::new(Vec::with_capacity(bodies.len())));
        let kicker = {
            let (vcpus, control, handles) =
                (Arc::clone(&vcpus), Arc::clone(&control), Arc::clone(&handles));
            let body = move || kick_until_stopped(&vcpus, &control, &handles, sampler);
            Builder::new().name("domstat-kick".to_owned()).spawn(body)?
        };
        // From here on, dropping `threads` stops what has been started.
        let queue_threads = Vec::new();
        let mut threads = Self { vcpus, control, kicker: Some(kicker), queues, queue_threads };
        for body in queue_bodies {
            let name = format!("domstat-queue{}", body.index);
            threads.queue_threads.push(Builder::new().name(name).spawn(move || body.run())?);
        }
        for (index, body) in bodies.into_iter().enumerate() {
            let control = Arc::clone(&threads.control);
            let run = move || {
                if let Err(source) = body() {
                    control.fail(Failure { vcpu: index, source });
                }
            };
            let handle = Builder::new().name(format!("domstat-vcpu{index}")).spawn(run)?;
            lock(&handles).push((index, handle));
        }
        Ok(threads)
    }

    /// The first vCPU that failed, once.
    pub(super) fn take_failure(&self) -> Option<Failure> {
        lock(&self.control.state).failure.take()
    }

    /// The ids of all threads, with their roles.
    pub(super) fn roles(&self) -> Vec<(i32, Role)> {
        let vcpus = self.vcpus.iter().map(|vcpu| (vcpu.tid.load(Ordering::Relaxed), Role::Vcpu));
        let queues = self.queues.iter().map(|queue| (queue.tid(), Role::Iothread));
        let kicker = (self.control.kicker.load(Ordering::Relaxed), Role::Other);
        vcpus.chain(queues).chain([kicker]).filter(|(tid, _)| *tid != 0).collect()
    }

    /// Stops all threads and waits for them.
    pub(super) fn stop(&mut self) {
        for vcpu in self.vcpus.iter() {
            vcpu.request_stop();
        }
        lock(&self.control.state).stop = true;
        self.control.changed.notify_all();
        if let Some(kicker) = self.kicker.take() {
            // A panic of that thread has been reported by the panic hook.
            let _ = kicker.join();
        }
        // No vCPU asks for anything any more; what was asked for is served.
        self.queues.iter().for_each(Queue::stop);
        for thread in self.queue_threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Control {
    fn fail(&self, failure: Failure) {
        lock(&self.state).failure.get_or_insert(failure);
    }
}

type Handles = Mutex<Vec<(usize, JoinHandle<()>)>>;

/// Brings vCPUs out of KVM_RUN now and then, so that one that never exits is brought up to date,
/// too, or samples them; when all are to stop, brings them out until they have ended, and joins them.
fn kick_until_stopped(
    vcpus: &[Arc<VcpuShared>],
    control: &Control,
    handles: &Handles,
    mut sampler: Option<Box<dyn Sample>>,
) {
    control.kicker.store(thread_id(), Ordering::Relaxed);
    let mut state = lock(&control.state);
    while !state.stop {
        let timeout = if sampler.is_some() { SAMPLING } else { Duration::from_nanos(REFRESH_NS) };
        state =
            control.changed.wait_timeout(state, timeout).unwrap_or_else(PoisonError::into_inner).0;
        match &mut sampler {
            Some(sampler) => sampler.sample(),
            None => kick_all(vcpus, &lock(handles)),
        }
    }
    drop(state);
    let handles = std::mem::take(&mut *lock(handles));
    while handles.iter().any(|(_, handle)| !handle.is_finished()) {
        kick_all(vcpus, &handles);
        std::thread::sleep(STOP_KICK);
    }
    for (_, handle) in handles {
        let _ = handle.join();
    }
    if let Some(sampler) = &mut sampler {
        sampler.end();
    }
}

fn kick_all(vcpus: &[Arc<VcpuShared>], handles: &[(usize, JoinHandle<()>)]) {
    for (index, handle) in handles {
        let in_guest = vcpus.get(*index).is_some_and(|v| v.in_guest.load(Ordering::Relaxed));
        if in_guest && !handle.is_finished() {
            // It fails only for a thread that has just ended.
            let _ = handle.kill(kick_signal());
        }
    }
}

/// The signal that brings a vCPU's thread out of KVM_RUN: the first real-time signal.
pub(super) fn kick_signal() -> libc::c_int {
    SIGRTMIN()
}

/// Makes the signal harmless for this process. It must have a handler, because an ignored signal
/// interrupts nothing.
pub(super) fn prepare_kick_signal() -> io::Result<()> {
    static REGISTERED: OnceLock<Result<(), i32>> = OnceLock::new();
    extern "C" fn nothing(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}
    let register = || register_signal_handler(kick_signal(), nothing).map_err(|e| e.errno());
    (*REGISTERED.get_or_init(register)).map_err(io::Error::from_raw_os_error)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
