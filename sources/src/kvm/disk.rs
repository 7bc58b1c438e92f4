//! Block device of the micro-VM: ports, a file, and two queues with a thread each.
//!
//! | port | written | read |
//! |---|---|---|
//! | [`COMMAND`] | operation (bits 0 and 1) and queue (bit 4) | how many requests of this vCPU are in flight, which acknowledges those that have ended |
//! | [`BLOCK`] | number of the first block, 16 bits | |
//! | [`DATA`] | the next bytes of the block to write | the next bytes of the last block that was read |
//! | [`TIMER`] | | 1 once in every [`TURN_NS`], else 0: the pace of this vCPU's requests |
//!
//! A request is for one block of [`BLOCK_BYTES`]. When it has ended, a vCPU that has halted is
//! woken. Of a command for a vCPU that has [`MAX_IN_FLIGHT`] requests in flight nothing is done.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use domstat_layout::latest::BlkQueueOf;
use domstat_layout::requests::BlkOp;
use domstat_layout::sink::BlkShareSink;
use domstat_layout::{Clock, Ns, Word};

use super::books::{Books, Outcome, Totals};
use super::shared::{BLOCK_BYTES, Block, VcpuShared};
use crate::host::{now, thread_id};

/// Port of the timer.
pub(super) const TIMER: u16 = 0x12;
/// Port of commands.
pub(super) const COMMAND: u16 = 0x20;
/// Port of the number of the first block.
pub(super) const BLOCK: u16 = 0x22;
/// Port of the data.
pub(super) const DATA: u16 = 0x24;

/// Bytes of a block.
const BLOCK_LEN: u64 = BLOCK_BYTES as u64;
/// Blocks of the device: 16 MiB in all.
pub(super) const NR_BLOCKS: u16 = 4096;
/// Queues of the device, each with a thread.
pub(super) const NR_QUEUES: usize = 2;
/// Time between two turns of one vCPU, in nanoseconds.
const TURN_NS: u64 = 10_000_000;
/// Most requests of one vCPU that are in flight.
const MAX_IN_FLIGHT: u32 = 8;

/// What the disk holds, in memory of its own.
pub(super) fn file() -> io::Result<File> {
    let fd = rustix::fs::memfd_create("domstat-disk", rustix::fs::MemfdFlags::CLOEXEC)?;
    let file = File::from(fd);
    file.set_len(capacity_bytes())?;
    Ok(file)
}

/// How large the disk is.
pub(super) fn capacity_bytes() -> u64 {
    u64::from(NR_BLOCKS).saturating_mul(BLOCK_LEN)
}

/// A request, from its acceptance on.
struct Request {
    operation: Option<BlkOp>,
    block: u16,
    /// What a write writes.
    data: Option<Block>,
    vcpu: Arc<VcpuShared>,
    accepted_ns: u64,
}

/// One queue of the device.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<QueueState>,
    changed: Condvar,
    /// What its thread has published last.
    totals: Mutex<Totals>,
    /// The thread's id; 0 before it runs.
    tid: AtomicI32,
}

#[derive(Default)]
struct QueueState {
    waiting: VecDeque<Request>,
    /// When requests were accepted that the thread does not know of yet.
    accepted: Vec<u64>,
    stop: bool,
}

// ORDERING: `tid` is Relaxed: a lone number.
impl Queue {
    fn accept(&self, mut request: Request) {
        let mut state = lock(&self.state);
        // Under the lock, so that points in time stay in order.
        request.accepted_ns = now(Clock::Monotonic).0;
        state.accepted.push(request.accepted_ns);
        state.waiting.push_back(request);
        self.changed.notify_one();
    }

    /// Has its thread end when everything that waits is served.
    pub(super) fn stop(&self) {
        lock(&self.state).stop = true;
        self.changed.notify_all();
    }

    /// What its thread has published last.
    pub(super) fn totals(&self) -> Totals {
        *lock(&self.totals)
    }

    /// The id of its thread; 0 before it runs.
    pub(super) fn tid(&self) -> i32 {
        self.tid.load(Ordering::Relaxed)
    }

    /// The next request; `None` if there is none and there will be none.
    fn next(&self, books: &mut Books) -> Option<Request> {
        let mut state = lock(&self.state);
        loop {
            if let Some(request) = state.waiting.pop_front() {
                state.accepted.drain(..).for_each(|at| books.accept(at));
                return Some(request);
            }
            if state.stop {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The time, with everything that was accepted before in the books.
    fn catch_up(&self, books: &mut Books) -> u64 {
        let mut state = lock(&self.state);
        state.accepted.drain(..).for_each(|at| books.accept(at));
        now(Clock::Monotonic).0
    }
}

/// The ports of the device, as one vCPU sees them.
pub(super) struct Ports {
    queues: Arc<[Queue; NR_QUEUES]>,
    block: u16,
    /// What the next write writes, or the last read has read, and how far that was looked at.
    data: Block,
    at: usize,
    /// When the next turn is.
    next_turn: Ns,
}

impl Ports {
    pub(super) fn new(queues: Arc<[Queue; NR_QUEUES]>) -> Self {
        Self { queues, block: 0, data: Box::new([0; BLOCK_BYTES]), at: 0, next_turn: Ns(0) }
    }

    /// The vCPU writes to a port.
    pub(super) fn write(&mut self, port: u16, bytes: &[u8], vcpu: &Arc<VcpuShared>) {
        match (port, bytes) {
            (COMMAND, [command, ..]) => self.command(*command, vcpu),
            (BLOCK, [low, high, ..]) => {
                (self.block, self.at) = (u16::from_le_bytes([*low, *high]), 0);
            }
            (DATA, bytes) => {
                for (to, from) in self.data.iter_mut().skip(self.at).zip(bytes) {
                    *to = *from;
                }
                self.at = self.at.saturating_add(bytes.len());
            }
            // Nothing listens at other ports.
            _ => {}
        }
    }

    /// The vCPU reads from a port; of one where nothing listens all bits are set, as on a bus.
    pub(super) fn read(&mut self, port: u16, bytes: &mut [u8], vcpu: &VcpuShared) {
        bytes.fill(0xff);
        match port {
            COMMAND => {
                let (in_flight, read) = vcpu.acknowledge();
                if let Some(read) = read {
                    (self.data, self.at) = (read, 0);
                }
                if let Some(byte) = bytes.first_mut() {
                    *byte = u8::try_from(in_flight).unwrap_or(u8::MAX);
                }
            }
            TIMER => {
                let now = now(Clock::Monotonic);
                let is_due = now >= self.next_turn;
                if is_due {
                    self.next_turn = Ns(now.0.saturating_add(TURN_NS));
                }
                bytes.fill(0);
                if let Some(byte) = bytes.first_mut() {
                    *byte = u8::from(is_due);
                }
            }
            DATA => {
                for (to, from) in bytes.iter_mut().zip(self.data.iter().skip(self.at)) {
                    *to = *from;
                }
                self.at = self.at.saturating_add(bytes.len());
            }
            _ => {}
        }
    }

    fn command(&mut self, command: u8, vcpu: &Arc<VcpuShared>) {
        let operation = match command & 3 {
            0 => Some(BlkOp::Read),
            1 => Some(BlkOp::Write),
            2 => Some(BlkOp::Flush),
            _ => None,
        };
        let queue = self.queues.get(usize::from((command >> 4) & 1));
        let (Some(queue), true) = (queue, vcpu.begin_request(MAX_IN_FLIGHT)) else { return };
        let data = (operation == Some(BlkOp::Write)).then(|| self.data.clone());
        self.at = 0;
        let vcpu = Arc::clone(vcpu);
        queue.accept(Request { operation, block: self.block, data, vcpu, accepted_ns: 0 });
    }
}

/// Everything that the thread of one queue owns.
pub(super) struct QueueThread<Q> {
    pub(super) queues: Arc<[Queue; NR_QUEUES]>,
    pub(super) index: usize,
    pub(super) file: Arc<File>,
    /// Without one nothing of the queue is published.
    pub(super) share: Option<Q>,
    pub(super) books: Books,
}

impl<Q: BlkShareSink> QueueThread<Q> {
    /// Publishes what it is a share of, and that nothing was asked for yet.
    pub(super) fn begin(&mut self) {
        if let Some(share) = &mut self.share {
            // The disk has the first slot for as long as there is a domain.
            let of = BlkQueueOf {
                device: Word::new(0),
                generation: Word::new(0),
                queue: u64::try_from(self.index).ok().into(),
                pid: Word::NOT_PRODUCED,
            };
            share.write(&of, now(Clock::Monotonic));
            self.books.write(share);
        }
    }

    /// Serves requests until the queue is stopped.
    pub(super) fn run(mut self) {
        let queues = Arc::clone(&self.queues);
        let Some(queue) = queues.get(self.index) else { return };
        queue.tid.store(thread_id(), Ordering::Relaxed);
        while let Some(mut request) = queue.next(&mut self.books) {
            if let Some(share) = &mut self.share {
                self.books.write_queue(share);
            }
            let outcome = self.serve(&mut request);
            let Request { operation, accepted_ns, vcpu, data, .. } = request;
            let at_ns = queue.catch_up(&mut self.books);
            self.books.end(at_ns, operation, outcome, accepted_ns, BLOCK_LEN);
            if let Some(share) = &mut self.share {
                self.books.write(share);
            }
            *lock(&queue.totals) = self.books.totals();
            // Not before it is published: a vCPU whose requests have all ended finds them counted.
            let is_read = (operation, outcome) == (Some(BlkOp::Read), Outcome::Done);
            vcpu.end_request(data.filter(|_| is_read));
        }
    }

    fn serve(&self, request: &mut Request) -> Outcome {
        let Some(operation) = request.operation else { return Outcome::Invalid };
        if operation != BlkOp::Flush && request.block >= NR_BLOCKS {
            return Outcome::Invalid;
        }
        let offset = u64::from(request.block).saturating_mul(BLOCK_LEN);
        let data = request.data.get_or_insert_with(|| Box::new([0; BLOCK_BYTES]));
        let result = match operation {
            BlkOp::Read => self.file.read_exact_at(&mut data[..], offset),
            BlkOp::Write => self.file.write_all_at(&data[..], offset),
            BlkOp::Flush => self.file.sync_data(),
            // There is no command for it.
            BlkOp::Discard => return Outcome::Invalid,
        };
        if result.is_ok() { Outcome::Done } else { Outcome::Failed }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
