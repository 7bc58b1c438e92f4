//! Proves that reading and writing neither allocate nor call the system: the work is done under an
//! allocator that counts, then under a seccomp filter that kills a process that makes a system call other
//! than exit.
//!
//! ```text
//! domstat-quiet read | write | snapshot    must end with status 0
//! domstat-quiet clock                      a look at the clock: killed where that is a system call
//! domstat-quiet break-alloc                allocates: must end with status 1
//! domstat-quiet break-syscall              calls the system: must be killed
//! ```
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use domstat_consumer::{Region, Snapshot};
use domstat_layout::latest::{Memory, Runstate};
use domstat_layout::{Clock, Group, Ns};
use domstat_producer::RegionBuilder;
use domstat_tests::runstate;

/// The system's allocator, counting.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is passed on as it is to an allocator that keeps the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise; everything was allocated by `System`.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Vcpus of the region.
const NR_VCPUS: u32 = 100;

fn main() -> ExitCode {
    let what = std::env::args().nth(1).unwrap_or_default();
    let mut created = RegionBuilder::new("quiet")
        .vcpus(NR_VCPUS)
        .clock(Clock::Monotonic)
        .create_memfd()
        .expect("a memfd");
    for vcpu in &mut created.vcpus {
        vcpu.write(&runstate(1), Ns(1));
    }
    let published = created.unpublished.publish().expect("a memfd can be sealed");
    let fd: OwnedFd = published.as_fd().expect("a memfd").try_clone_to_owned().expect("one more");
    let region = Region::from_fd(fd).expect("our own region");
    let (mut dom, mut vcpus) = (created.dom, created.vcpus);
    let mut snapshot = Snapshot::new();
    region.snapshot(&mut snapshot);

    let mut work = || match what.as_str() {
        "read" => {
            for vcpu in region.vcpus() {
                assert!(vcpu.read::<Runstate>().is_ok());
                assert!(vcpu.stat(Runstate::running_ns).is_ok());
            }
            assert!(region.dom().read::<Memory>().is_ok());
        }
        "write" => {
            for vcpu in &mut vcpus {
                vcpu.write(&runstate(2), Ns(2));
                vcpu.set(Runstate::running_ns, 3, Ns(3));
            }
            dom.write(&Memory::NOT_PRODUCED, Ns(2));
            dom.set(Memory::rss_bytes, 3, Ns(3));
            dom.deactivate::<Memory>();
            vcpus[0].renew();
            black_box(region.status());
        }
        "snapshot" => region.snapshot(&mut snapshot),
        "clock" => drop(black_box(domstat_consumer::clock::now(Clock::Monotonic))),
        "break-alloc" => drop(black_box(Box::new(1))),
        "break-syscall" => drop(black_box(rustix::process::getppid().is_some())),
        _ => {}
    };
    if !["read", "write", "snapshot", "clock", "break-alloc", "break-syscall"]
        .contains(&what.as_str())
    {
        eprintln!("usage: domstat-quiet read|write|snapshot|clock|break-alloc|break-syscall");
        return ExitCode::from(2);
    }

    let before = ALLOCATIONS.load(Ordering::Relaxed);
    (0..1000).for_each(|_| work());
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    if allocations > 0 {
        eprintln!("{what}: {allocations} allocations and deallocations");
        return ExitCode::from(1);
    }

    if let Err(error) = forbid_system_calls() {
        eprintln!("no seccomp filter can be had here: {error}");
        return ExitCode::from(3);
    }
    (0..1000).for_each(|_| work());
    loop {
        // SAFETY: ends the one thread there is, without what is forbidden on the way out.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    }
}

/// From here on every system call but exit ends this process with SIGSYS.
fn forbid_system_calls() -> std::io::Result<()> {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let mut filter = [
        // The system call's number, the first word of what a filter is given.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
        libc::sock_filter {
            jf: 1,
            ..statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, libc::SYS_exit as u32)
        },
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_KILL_PROCESS),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    rustix::thread::set_no_new_privs(true)?;
    // SAFETY: the program and its filter outlive the call, which copies them.
    let done =
        unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}
