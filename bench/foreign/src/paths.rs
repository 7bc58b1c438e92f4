//! Paths that are run: each a function that is not inlined, given what the compiler knows nothing
//! of, and returning all that was read.
#![allow(unsafe_code)]

use std::hint::black_box;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use domstat_consumer::{ReadError, Reading, Region, Sample, Vcpu};
use domstat_layout::descriptor::GROUP_HEADER_LEN;
use domstat_layout::latest::{BlkQueueOf, Runstate, Wait};
use domstat_layout::{Clock, Group, Ns, ReadMem, RecordKind, Stat, Word, WriteMem};
use domstat_producer::{
    BlkDevice, BlkOp, BlkQueueWriter, RegionBuilder, RequestTracker, VcpuHistWriter, VcpuWriter,
};
use seqlock::SeqLock;

use crate::harness::{Subject, again};

/// What can be run, in the order of [`Subjects::in_order`].
pub(crate) const PATHS: [&str; 17] = [
    "empty",
    "word-load",
    "word-store",
    "group-read",
    "vcpu-read",
    "seqlock-read",
    "field-read",
    "vcpu-stat",
    "group-write-twice",
    "vcpu-write",
    "seqlock-write",
    "field-write",
    "field-write-twice",
    "vcpu-set",
    "hist-record",
    "device-request",
    "share-request",
];

/// Words of a runstate.
const WORDS: usize = size_of::<Runstate>() / 8;
/// Words as they lie in a group.
type Words = [u64; WORDS];
/// Where the running time is among them.
const RUNNING: usize = 2;
/// A group in a page, and a second one a cache line further on.
const GROUPS: [usize; 2] = [48, 176];
/// Its length.
const LEN: usize = GROUP_HEADER_LEN + WORDS * 8;
/// A page of shared words.
static PAGE: [AtomicU64; 512] = [const { AtomicU64::new(0) }; 512];

/// Everything that the paths read and write.
pub(crate) struct Subjects {
    word: AtomicU64,
    cell: SeqLock<Words>,
    region: Region,
    _producer: domstat_producer::Region,
    writers: [VcpuWriter; 2],
    hist: VcpuHistWriter,
    device: RequestTracker<BlkDevice>,
    share: RequestTracker<BlkQueueWriter>,
    numbers: Runstate,
    words: Words,
}

impl Subjects {
    pub(crate) fn new() -> Self {
        let numbers = Runstate {
            state: 0.into(),
            state_entry_ns: 1.into(),
            running_ns: 2.into(),
            runnable_ns: 3.into(),
            blocked_ns: 4.into(),
            offline_ns: 5.into(),
        };
        let mut created = RegionBuilder::new("foreign")
            .vcpus(3)
            .vcpu_histograms(true)
            .blks(2)
            .blk_histograms(true)
            .blk_queues(1)
            .clock(Clock::Monotonic)
            .create_memfd()
            .expect("a memfd");
        created.vcpus.iter_mut().for_each(|vcpu| vcpu.write(&numbers, Ns(1)));
        let writers = [created.vcpus.remove(2), created.vcpus.remove(1)];
        let (blk, hist) = (created.blks.remove(0), Some(created.blk_hists.remove(0)));
        let device = RequestTracker::device(BlkDevice { blk, hist }, Ns(1));
        let (generation, pid) = (Word::new(0), Word::NOT_PRODUCED);
        let of = BlkQueueOf { device: Word::new(1), generation, queue: Word::new(0), pid };
        let share = RequestTracker::share(created.blk_queues.remove(0), &of, Ns(1));
        let hist = created.vcpu_hists.remove(0);
        let producer = created.unpublished.publish().expect("a memfd can be sealed");
        let fd = producer.as_fd().expect("a memfd").try_clone_to_owned().expect("a descriptor");
        let region = Region::from_fd(fd).expect("our own region");
        let words = [0, 1, 2, 3, 4, 5];
        let (word, cell) = (AtomicU64::new(0), SeqLock::new(words));
        let _producer = producer;
        Self { word, cell, region, _producer, writers, hist, device, share, numbers, words }
    }

    /// One subject for each of [`PATHS`].
    pub(crate) fn in_order(&mut self) -> impl Iterator<Item = Subject<'_>> {
        let Self { word, cell, region, numbers, words, hist, device, share, .. } = self;
        let [first, second] = &mut self.writers;
        let (word, cell, region, numbers, words) = (&*word, &*cell, &*region, &*numbers, &*words);
        let vcpu = region.vcpu(0).expect("the first");
        let record = region.geometry().array(RecordKind::Vcpu);
        let read = region.mem().sub(record.offs, record.size).expect("the first");
        let page = write_mem();
        let subjects: [Subject<'_>; PATHS.len()] = [
            again(|| empty(black_box(0))),
            again(move || word_load(black_box(word))),
            again(move || word_store(black_box(word), black_box(7))),
            in_place(move || group_read(black_box(&read))),
            in_place(move || vcpu_read(black_box(&vcpu))),
            in_place(move || seqlock_read(black_box(cell))),
            in_place(move || field_read(black_box(&read))),
            in_place(move || vcpu_stat(black_box(&vcpu))),
            again(move || group_write_twice(black_box(&page), black_box(words))),
            again(move || vcpu_write(black_box(first), black_box(numbers))),
            again(move || seqlock_write(black_box(cell), black_box(words))),
            again(move || field_write(black_box(&page), black_box(7))),
            again(move || field_write_twice(black_box(&page), black_box(7))),
            again(move || vcpu_set(black_box(second), black_box(7))),
            again(move || hist_record(black_box(hist), black_box(700))),
            again(move || device_request(black_box(device), black_box(4096))),
            again(move || share_request(black_box(share), black_box(4096))),
        ];
        subjects.into_iter()
    }
}

/// A subject whose result is looked at where it was written: moved on, it would be copied at once,
/// in other pieces than it was written in, which takes longer than the read.
fn in_place<'a, T>(once: impl Fn() -> T + 'a) -> Subject<'a> {
    again(move || _ = black_box(&once()))
}

/// The page, for writing.
fn write_mem() -> WriteMem<'static> {
    // SAFETY: atomic words that live as long as the program, aligned to 8.
    unsafe { WriteMem::new(NonNull::from(&PAGE).cast(), size_of_val(&PAGE)) }
}

#[inline(never)]
fn empty(n: u64) -> u64 {
    n
}

#[inline(never)]
fn word_load(word: &AtomicU64) -> u64 {
    word.load(Ordering::Relaxed)
}

#[inline(never)]
fn word_store(word: &AtomicU64, value: u64) {
    word.store(value, Ordering::Relaxed);
}

/// The protocol alone: no bit, no generation, no twin, nobody to wait for.
#[inline(never)]
fn group_read(mem: &ReadMem<'_>) -> Option<(u32, u64, Words)> {
    let span = const { Runstate::DESC.span() };
    let mut words = [0; WORDS];
    let (seq, updated_ns, ()) =
        mem.group(span.offset, span.size)?.try_read(&mut words, || ()).ok()?;
    Some((seq, updated_ns, words))
}

#[inline(never)]
fn vcpu_read(vcpu: &Vcpu<'_>) -> Result<Reading<Sample<Runstate>>, ReadError> {
    vcpu.read()
}

#[inline(never)]
fn seqlock_read(cell: &SeqLock<Words>) -> Words {
    cell.read()
}

#[inline(never)]
fn field_read(mem: &ReadMem<'_>) -> Option<u64> {
    let span = const { Runstate::DESC.span() };
    mem.group(span.offset, span.size)?.try_read_word(RUNNING, || ()).ok()?.0
}

#[inline(never)]
fn vcpu_stat(vcpu: &Vcpu<'_>) -> Result<Stat, ReadError> {
    vcpu.stat(Runstate::running_ns)
}

#[inline(never)]
fn group_write_twice(page: &WriteMem<'_>, words: &Words) {
    for offset in GROUPS {
        if let Some(mut group) = page.group(offset, LEN) {
            group.write(1, words);
        }
    }
}

#[inline(never)]
fn vcpu_write(vcpu: &mut VcpuWriter, numbers: &Runstate) {
    vcpu.write(numbers, Ns(1));
}

#[inline(never)]
fn seqlock_write(cell: &SeqLock<Words>, words: &Words) {
    *cell.lock_write() = *words;
}

#[inline(never)]
fn field_write(page: &WriteMem<'_>, value: u64) {
    if let Some(mut group) = page.group(GROUPS[0], LEN) {
        group.write_word(1, RUNNING, value);
    }
}

#[inline(never)]
fn field_write_twice(page: &WriteMem<'_>, value: u64) {
    for offset in GROUPS {
        if let Some(mut group) = page.group(offset, LEN) {
            group.write_word(1, RUNNING, value);
        }
    }
}

#[inline(never)]
fn vcpu_set(vcpu: &mut VcpuWriter, value: u64) {
    vcpu.set(Runstate::running_ns, value, Ns(1));
}

#[inline(never)]
fn hist_record(hist: &mut VcpuHistWriter, value: u64) {
    hist.record::<Wait>(value, Ns(1));
}

/// The whole bookkeeping of a read.
#[inline(never)]
fn device_request(device: &mut RequestTracker<BlkDevice>, bytes: u64) {
    let request = device.submit(Ns(1));
    device.complete(black_box(request), BlkOp::Read, bytes, Ns(2));
}

/// The same by the writer of a share.
#[inline(never)]
fn share_request(share: &mut RequestTracker<BlkQueueWriter>, bytes: u64) {
    let request = share.submit(Ns(1));
    share.complete(black_box(request), BlkOp::Read, bytes, Ns(2));
}
