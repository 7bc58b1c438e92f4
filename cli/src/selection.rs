//! Options that select what is exported.

use domstat_exporter::selection::{Groups, Selection, Vcpus};

/// Options of `export` and `push`.
#[derive(clap::Args)]
pub(crate) struct SelectionArgs {
    /// Export these groups only, called as in `abi show` (dom.memory), by group (io), kind of
    /// records (vcpu) or pattern ('blk.*'); `default` is what is exported without this option
    #[arg(long, value_name = "GROUP,...", value_delimiter = ',', help_heading = "Selection")]
    include: Vec<Groups>,
    /// Do not export these groups
    #[arg(long, value_name = "GROUP,...", value_delimiter = ',', help_heading = "Selection")]
    exclude: Vec<Groups>,
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
            ..Selection::default()
        }
    }
}
