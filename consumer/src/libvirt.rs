//! Block statistics in the forms that libvirt hands out.

mod block_params;
mod block_stats;

pub use block_params::{BLOCK_PARAMS, BlockParam};
pub use block_stats::{BlockStats, BlockStatsError, BlockStatsV1, BlockStatsV2};
