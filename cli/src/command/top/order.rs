//! Which domains come first, and which not at all.

use clap::ValueEnum;

use super::sampler::Row;
use super::totals::both;

/// By what domains are sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Key {
    /// Time that vCPUs ran
    #[default]
    Running,
    /// Time that vCPUs wanted a CPU and had none
    Steal,
    /// Exits
    Exits,
    /// Bytes read and written
    Disk,
    /// Bytes received and sent
    Net,
    /// Memory
    Memory,
    /// Age of the newest write, the oldest first
    Age,
    /// Name
    Name,
}

impl Key {
    pub(super) const ALL: [Self; 8] = [
        Self::Running,
        Self::Steal,
        Self::Exits,
        Self::Disk,
        Self::Net,
        Self::Memory,
        Self::Age,
        Self::Name,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Steal => "steal",
            Self::Exits => "exits",
            Self::Disk => "disk",
            Self::Net => "net",
            Self::Memory => "memory",
            Self::Age => "age",
            Self::Name => "name",
        }
    }

    /// The one `by` places further, going around.
    pub(super) fn step(self, by: usize) -> Self {
        let at = Self::ALL.iter().position(|key| *key == self).unwrap_or(0);
        Self::ALL.get((at + by) % Self::ALL.len()).copied().unwrap_or_default()
    }

    fn value(self, row: &Row) -> Option<f64> {
        match self {
            Self::Running => row.rates.running,
            Self::Steal => row.rates.steal,
            Self::Exits => row.rates.exits,
            Self::Disk => both(row.rates.read, row.rates.written),
            Self::Net => both(row.rates.received, row.rates.sent),
            Self::Memory => row.totals.now.memory.map(|bytes| bytes as f64),
            Self::Age => row.age.map(|ns| ns as f64),
            Self::Name => None,
        }
    }
}

/// Sorts; what has no value comes last, and equals by their names.
pub(super) fn sort(rows: &mut [(&str, &Row)], key: Key, reverse: bool) {
    let mut keyed: Vec<(Option<f64>, (&str, &Row))> =
        rows.iter().map(|(entry, row)| (key.value(row), (*entry, *row))).collect();
    keyed.sort_by(|(a, (entry_a, row_a)), (b, (entry_b, row_b))| {
        let by_value = match (a, b) {
            (Some(a), Some(b)) if reverse => a.total_cmp(b),
            (Some(a), Some(b)) => b.total_cmp(a),
            (a, b) => b.is_some().cmp(&a.is_some()),
        };
        let by_name = (&row_a.name, entry_a).cmp(&(&row_b.name, entry_b));
        let flip = reverse && key == Key::Name;
        by_value.then(if flip { by_name.reverse() } else { by_name })
    });
    for (to, (_, from)) in rows.iter_mut().zip(keyed) {
        *to = from;
    }
}

/// Whether a domain is to be shown: its name, UUID or state contains the text.
pub(super) fn matches(row: &Row, filter: &str) -> bool {
    filter.is_empty()
        || row.name.contains(filter)
        || row.uuid.as_ref().is_some_and(|uuid| uuid.contains(filter))
        || row.health.name() == filter
}
