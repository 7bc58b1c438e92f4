//! Runs one path of the library so many times, for a tool that counts instructions.
//!
//! ```text
//! domstat-paths PATH N      PATH as in ci/instructions.txt
//! domstat-paths --list
//! ```
#![allow(unsafe_code)]

use std::hint::black_box;
use std::process::ExitCode;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use domstat_consumer::{Region, Snapshot};
use domstat_layout::latest::Runstate;
use domstat_layout::{Clock, CopyWidth, GroupSpan, Ns, ReadMem, TwinSpans, WriteMem, seqlock};
use domstat_producer::RegionBuilder;

/// Where a group of 128 bytes and its twin lie.
const FIRST: usize = 48;
const TWIN: usize = 2096;
const LEN: usize = 144;
const TWINS: TwinSpans = TwinSpans {
    first: GroupSpan { offset: FIRST, size: LEN, mask: 0b01 },
    second: Some(GroupSpan { offset: TWIN, size: LEN, mask: 0b10 }),
};
/// Words of it.
type Words = [u64; 16];

/// What can be run, by name.
const PATHS: &[&str] = &[
    "empty",
    "memcpy-128",
    "read-128-words",
    "read-128-16-byte",
    "read-128-32-byte",
    "read-128-twins",
    "write-128",
    "write-128-words",
    "write-128-twins",
    "read-field",
    "write-field",
    "snapshot-64-packed",
];

#[repr(align(4096))]
struct Page([u64; 512]);

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let (path, n) = (args.next().unwrap_or_default(), args.next());
    if path == "--list" {
        PATHS.iter().for_each(|path| println!("{path}"));
        return ExitCode::SUCCESS;
    }
    let n: u64 = n.and_then(|n| n.parse().ok()).unwrap_or(0);
    if !PATHS.contains(&path.as_str()) || n == 0 {
        eprintln!("usage: domstat-paths PATH N | --list");
        return ExitCode::from(2);
    }
    run(&path, n);
    ExitCode::SUCCESS
}

fn run(path: &str, n: u64) {
    let mut page = Box::new(Page([0; 512]));
    let base = NonNull::from(page.0.as_mut_slice()).cast::<u8>();
    // SAFETY: the page lives until the end of this function, and from here on is only reached
    // through `mem`.
    let mem = unsafe { WriteMem::new(base, 4096) };
    let (mut to, from): (Words, Words) = ([0; 16], [3; 16]);
    write_twins(mem, &from);
    let portable = Portable::default();

    let mut created = RegionBuilder::new("paths")
        .vcpus(64)
        .clock(Clock::Monotonic)
        .create_memfd()
        .expect("a memfd");
    let numbers = Runstate {
        state: 0.into(),
        state_entry_ns: 1.into(),
        running_ns: 2.into(),
        runnable_ns: 3.into(),
        blocked_ns: 4.into(),
        offline_ns: 5.into(),
    };
    created.vcpus.iter_mut().for_each(|vcpu| vcpu.write(&numbers, Ns(1)));
    let producer = created.unpublished.publish().expect("a memfd can be sealed");
    let fd = producer.as_fd().expect("a memfd").try_clone_to_owned().expect("one more");
    let region = Region::from_fd(fd).expect("our own region");
    let mut snapshot = Snapshot::new();
    region.snapshot(&mut snapshot);

    let read = mem.as_read();
    let form = |name: &str| {
        let form = CopyWidth::all().find(|form| form.name() == name);
        read.with_form(form.unwrap_or(CopyWidth::BASELINE))
    };
    let mut once: Box<dyn FnMut() + '_> = match path {
        "memcpy-128" => Box::new(|| copy(black_box(&from), black_box(&mut to))),
        "read-128-words" => reading(form("words"), &mut to, read_group),
        "read-128-16-byte" => reading(form("16-byte"), &mut to, read_group),
        "read-128-32-byte" => reading(form("32-byte"), &mut to, read_group),
        "read-128-twins" => reading(form("16-byte"), &mut to, read_twins),
        "write-128" => Box::new(|| write_group(mem, black_box(&from))),
        "write-128-words" => Box::new(|| write_words(&portable, black_box(&from))),
        "write-128-twins" => Box::new(|| write_twins(mem, black_box(&from))),
        "read-field" => Box::new(|| _ = black_box(read_field(read))),
        "write-field" => Box::new(|| write_field(mem, black_box(7))),
        "snapshot-64-packed" => Box::new(|| take_snapshot(&region, &mut snapshot)),
        _ => Box::new(empty),
    };
    for _ in 0..n {
        once();
    }
}

fn reading<'a>(
    mem: ReadMem<'a>,
    to: &'a mut Words,
    read: fn(ReadMem<'_>, &mut Words) -> bool,
) -> Box<dyn FnMut() + 'a> {
    Box::new(move || {
        black_box(read(mem, to));
    })
}

#[inline(never)]
fn empty() {
    black_box(());
}

#[inline(never)]
fn copy(from: &Words, to: &mut Words) {
    *to = *from;
}

#[inline(never)]
fn read_group(mem: ReadMem<'_>, to: &mut Words) -> bool {
    mem.group(FIRST, LEN).is_some_and(|group| group.try_read(to, || ()).is_ok())
}

#[inline(never)]
fn read_twins(mem: ReadMem<'_>, to: &mut Words) -> bool {
    mem.twins(TWINS).is_some_and(|twins| twins.try_read(to, |_| Some(())).is_ok())
}

#[inline(never)]
fn write_group(mem: WriteMem<'_>, from: &Words) {
    if let Some(mut group) = mem.group(FIRST, LEN) {
        group.write(1, from);
    }
}

#[inline(never)]
fn write_twins(mem: WriteMem<'_>, from: &Words) {
    if let Some(mut twins) = mem.twins(TWINS) {
        twins.write(1, from);
    }
}

/// A group that is written in the portable form.
#[derive(Default)]
struct Portable {
    seq: AtomicU32,
    updated_ns: AtomicU64,
    words: [AtomicU64; 16],
}

#[inline(never)]
fn write_words(group: &Portable, from: &Words) {
    let odd = seqlock::write_begin(&group.seq);
    // ORDERING: relaxed; one of the words that seq guards.
    group.updated_ns.store(1, Ordering::Relaxed);
    seqlock::store_words(&group.words, from);
    seqlock::write_end(&group.seq, odd);
}

#[inline(never)]
fn read_field(mem: ReadMem<'_>) -> Option<u64> {
    mem.group(FIRST, LEN)?.try_read_word(2, || ()).ok()?.0
}

#[inline(never)]
fn write_field(mem: WriteMem<'_>, value: u64) {
    if let Some(mut group) = mem.group(FIRST, LEN) {
        group.write_word(1, 2, value);
    }
}

#[inline(never)]
fn take_snapshot(region: &Region, snapshot: &mut Snapshot) {
    region.snapshot(snapshot);
}
