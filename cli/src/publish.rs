//! Publication: from what sources know to regions that consumers find.

mod domain;
mod host;
mod labels;
mod lineage;
mod notes;
mod observer;
mod place;
mod shape;
mod sinks;

pub(crate) use domain::{End, Kept, Published};
pub(crate) use host::{Domains, Host};
pub(crate) use labels::LabelArgs;
pub(crate) use notes::Notes;
pub(crate) use observer::Regions;
pub(crate) use place::Place;
pub(crate) use shape::Form;
