//! Sinks whose counters do not go back when a region continues that of an earlier process.

use domstat_layout::descriptor::GROUP_HEADER_LEN;
use domstat_layout::latest::Runstate;
use domstat_layout::sink::{DomSink, VcpuSink};
use domstat_layout::{DomGroup, Group, Ns, Stat, VcpuGroup, Word};
use zerocopy::{FromBytes, IntoBytes};

use crate::predecessor::LastGroup;
use crate::{DomWriter, VcpuWriter};

/// How far the beginnings of one vCPU may seem apart: a tick of the slowest kernel.
const SAME_BEGINNING_NS: u64 = 10_000_000;

/// A sink in front of a writer of a region that continues an earlier one
/// ([`crate::RegionBuilder::continue_memfd`]): cumulative fields do not go back.
///
/// For sources that count from the domain's beginning, as the kernel does for a process, and whose
/// numbers may differ a little from those of the earlier process: a counter below its last value
/// stays at that value until it catches up. A slot whose runstate shows another vCPU than before,
/// by when it began, is renewed. Arch groups pass unchanged.
///
/// In front of a writer of a new region it changes nothing.
pub struct MonotonicSink<W> {
    writer: W,
    /// Last values of the groups that have not caught up yet.
    floors: Vec<LastGroup>,
}

impl MonotonicSink<DomWriter> {
    /// Continues the dom record.
    #[must_use]
    pub fn dom(mut writer: DomWriter) -> Self {
        let floors = writer.take_last();
        Self { writer, floors }
    }
}

impl MonotonicSink<VcpuWriter> {
    /// Continues a vCPU's record.
    #[must_use]
    pub fn vcpu(mut writer: VcpuWriter) -> Self {
        let floors = writer.take_last();
        Self { writer, floors }
    }

    /// Whether a runstate as of `now` is that of another vCPU than the one that was shown.
    fn is_another<G: Group>(&self, group: &G, now: Ns) -> bool {
        let Some(last) = self.floors.iter().find(|last| last.desc.bit == Runstate::DESC.bit) else {
            return false;
        };
        if G::DESC.bit != Runstate::DESC.bit {
            return false;
        }
        let began = |bytes: &[u8], as_of: u64| {
            let runstate = Runstate::read_from_bytes(bytes).ok()?;
            as_of.checked_sub(runstate.total_ns()?)
        };
        let before = began(last.words.as_slice().as_bytes(), last.updated_ns);
        let after = began(group.as_bytes(), now.0);
        match (before, after) {
            (Some(before), Some(after)) => before.abs_diff(after) > SAME_BEGINNING_NS,
            _ => false,
        }
    }
}

impl<W> MonotonicSink<W> {
    /// The last values of a group, until it has caught up.
    #[must_use]
    pub fn last<G: Group>(&self) -> Option<G> {
        let last = self.floors.iter().find(|last| last.desc == G::DESC)?;
        G::read_from_bytes(last.words.as_slice().as_bytes()).ok()
    }

    /// The group with every counter at least as high as it was.
    fn raised<G: Group>(&mut self, group: &G) -> G {
        let mut group = *group;
        let Some(at) = self.floors.iter().position(|last| last.desc == G::DESC) else {
            return group;
        };
        let mut owed = 0;
        if let (Some(last), Ok(words)) =
            (self.floors.get(at), <[u64]>::mut_from_bytes(group.as_mut_bytes()))
        {
            let index = |offset: usize| (offset - G::DESC.offset - GROUP_HEADER_LEN) / 8;
            let counters = || {
                let fields = G::DESC.fields.iter().filter(|f| f.kind.never_decreases());
                fields.flat_map(|f| index(f.offset)..index(f.offset + f.width))
            };
            for i in counters() {
                if let (Some(word), Some(floor)) = (words.get_mut(i), last.words.get(i)) {
                    owed = u64::saturating_add(owed, raise(word, *floor));
                }
            }
            if G::DESC == Runstate::DESC {
                // The times sum to the vCPU's age: what one is raised at is taken from those that
                // went on. It only becomes less, so that none of them goes back.
                let mut left = owed;
                for i in counters() {
                    if let (Some(word), Some(floor)) = (words.get_mut(i), last.words.get(i)) {
                        left -= lower(word, *floor, left);
                    }
                }
            }
        }
        if owed == 0 {
            self.floors.swap_remove(at);
        }
        group
    }
}

/// Makes a counter at least as high as `floor`; by how much it was too low.
fn raise(word: &mut u64, floor: u64) -> u64 {
    match (Word::from_raw(*word).get(), Word::from_raw(floor).get()) {
        (Stat::Value(value), Stat::Value(least)) if value < least => {
            *word = floor;
            least - value
        }
        (Stat::Value(_), Stat::Saturated) => {
            *word = floor;
            1
        }
        _ => 0,
    }
}

/// Takes at most `most` from what a counter has above `floor`; how much that was.
fn lower(word: &mut u64, floor: u64, most: u64) -> u64 {
    match (Word::from_raw(*word).get(), Word::from_raw(floor).get()) {
        (Stat::Value(value), Stat::Value(least)) => {
            let taken = value.saturating_sub(least).min(most);
            *word = Word::from(value - taken).to_raw();
            taken
        }
        _ => 0,
    }
}

impl DomSink for MonotonicSink<DomWriter> {
    fn write<G: DomGroup>(&mut self, group: &G, now: Ns) {
        if self.floors.is_empty() {
            return self.writer.write(group, now);
        }
        let raised = self.raised(group);
        self.writer.write(&raised, now);
    }
    fn deactivate<G: DomGroup>(&mut self) {
        self.writer.deactivate::<G>();
    }
    fn write_arch(&mut self, index: usize, words: &[Word], now: Ns) {
        self.writer.write_arch(index, words, now);
    }
}

impl VcpuSink for MonotonicSink<VcpuWriter> {
    fn write<G: VcpuGroup>(&mut self, group: &G, now: Ns) {
        if self.floors.is_empty() {
            return self.writer.write(group, now);
        }
        if self.is_another(group, now) {
            self.renew();
        }
        let raised = self.raised(group);
        self.writer.write(&raised, now);
    }
    fn deactivate<G: VcpuGroup>(&mut self) {
        self.writer.deactivate::<G>();
    }
    fn write_arch(&mut self, index: usize, words: &[Word], now: Ns) {
        self.writer.write_arch(index, words, now);
    }
    fn renew(&mut self) {
        self.floors.clear();
        self.writer.renew();
    }
}
