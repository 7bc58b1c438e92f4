//! One file per verb.

pub(crate) mod abi;
pub(crate) mod block;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod demo;
pub(crate) mod events;
pub(crate) mod export;
pub(crate) mod ls;
pub(crate) mod man;
pub(crate) mod run;
pub(crate) mod show;
pub(crate) mod top;
