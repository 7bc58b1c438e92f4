//! Statistics of all domains of a host as metrics.
//!
//! An [`Exporter`] stays attached to every region that is announced in a directory. A
//! [pass](Exporter::pass) copies all their numbers in one go, so that what one scrape shows is as
//! of one moment; then the points are [walked](walk()) family by family, as the formats demand,
//! and handed on in pieces. A scrape needs some kilobytes for each domain and the text never as a
//! whole. [`serve`](server::serve) does so over HTTP.
//!
//! What is absent has no series; what cannot be read has none in this scrape, and is counted.
//!
//! The names are in [`families`]. The text is written here and not by a crate: those that there
//! are know neither `_created` nor state sets, and hold their values themselves.

mod book;
mod exporter;
pub mod families;
pub mod family;
pub mod server;
pub mod text;
pub mod view;
pub mod walk;

pub use exporter::Exporter;
pub use walk::walk;
