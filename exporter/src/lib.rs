//! Exporter of the statistics of all domains of a host, as metrics.
//!
//! An [`Exporter`] stays attached to every region in a directory. A [pass](Exporter::pass) copies
//! all their numbers at once, so that a [`Scrape`](scrape::Scrape) shows one moment. The points
//! are then [walked](walk()) family by family, as the formats demand, and written in pieces: a
//! scrape needs some kilobytes per domain, and the text is never in memory as a whole.
//! [`serve`](server::serve) does this over HTTP.
//!
//! Absent values have no series. A value that cannot be read has none in this scrape, and the
//! failure is counted.
//!
//! [`families`] lists the names. The text is written here and not by a crate, because the
//! available ones know neither `_created` nor state sets, and store the values themselves.

pub mod distributions;
pub mod domain_labels;
mod domain_state;
mod exporter;
pub mod families;
pub mod family;
pub mod histogram;
pub mod label;
pub mod openmetrics;
#[cfg(feature = "otlp")]
pub mod otlp;
pub mod points;
pub mod process;
mod queue_times;
pub mod scrape;
pub mod selection;
pub mod server;
mod vcpu_sums;

pub use exporter::Exporter;
pub use points::walk;
