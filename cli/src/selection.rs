//! Options that select what is exported.

use std::collections::BTreeSet;

use domstat_exporter::domain_labels::Keys;
use domstat_exporter::histogram::Bounds;
use domstat_exporter::selection::{Groups, Selection, Vcpus};

/// Options of `export` and `push`.
#[derive(clap::Args)]
pub(crate) struct SelectionArgs {
    /// Export these groups only, called as in `abi show` (dom.memory), by group (io), kind of
    /// records (vcpu) or pattern ('blk.*'); `default` is what is exported without this option: all but
    /// dom.threads, dom.balloon, vcpu.exits, blk.discards, net.limits, histograms (vcpu_hist, blk_hist)
    /// and labels
    #[arg(long, value_name = "GROUP,...", value_delimiter = ',', help_heading = "Selection")]
    include: Vec<Groups>,
    /// Do not export these groups
    #[arg(long, value_name = "GROUP,...", value_delimiter = ',', help_heading = "Selection")]
    exclude: Vec<Groups>,
    /// Export the domains' label KEY, or all with '*', as labels of domstat_domain_labels; may be
    /// repeated
    #[arg(long = "domain-label", value_name = "KEY", help_heading = "Selection")]
    domain_labels: Vec<String>,
    /// Bounds of histograms: every second one of a useful range, or all
    #[arg(
        long,
        value_name = "WHICH",
        value_enum,
        default_value = "few",
        help_heading = "Selection"
    )]
    bounds: BoundsArg,
    /// Series of each vCPU, or one for each domain: the sum over its vCPUs, of what is cumulative
    #[arg(
        long,
        value_name = "HOW",
        value_enum,
        default_value = "each",
        help_heading = "Selection"
    )]
    vcpus: VcpusArg,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum VcpusArg {
    Each,
    Sum,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum BoundsArg {
    Few,
    All,
}

impl SelectionArgs {
    pub(crate) fn selection(&self) -> Selection {
        let joined = |sets: &[Groups]| sets.iter().fold(Groups::NONE, |all, set| all.with(*set));
        let groups = match self.include.as_slice() {
            [] => Groups::default(),
            include => joined(include),
        };
        Selection {
            groups: groups.without(joined(&self.exclude)),
            vcpus: match self.vcpus {
                VcpusArg::Each => Vcpus::Each,
                VcpusArg::Sum => Vcpus::Sum,
            },
            keys: if self.domain_labels.iter().any(|key| key == "*") {
                Keys::All
            } else {
                Keys::These(self.domain_labels.iter().cloned().collect::<BTreeSet<_>>())
            },
            bounds: match self.bounds {
                BoundsArg::Few => Bounds::Few,
                BoundsArg::All => Bounds::All,
            },
        }
    }
}
