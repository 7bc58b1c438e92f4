//! Observer of a domain that comes and goes.

use std::path::Path;

use super::{Command, Publisher, SourceError};

/// A domain that is observed now or whenever it is there: its devices come and go, it has events
/// and takes commands.
///
/// # Contract
///
/// Rules 4 to 8 of [`Source`](super::Source) hold for what is written to the sinks of each region;
/// a new region begins a new recording. In addition:
///
/// 11. Each region has the shape that its [`Description`](super::Description) announces. What the
///     observer knows is written before [`Publisher::publish`]; the identity groups of devices are
///     the observer's, that of the domain is the publisher's.
/// 12. At most one region exists at a time: the one before is dropped before the next is created.
///     A region with too few slots is replaced by one with more.
/// 13. An event is reported once. What it changed is written first, then [`Publisher::notify`] is
///     called, then [`Publisher::event`].
/// 14. [`Event::Published`](super::Event::Published) is the first event of a domain and
///     [`Event::Gone`](super::Event::Gone) the last; every domain that was published goes.
/// 15. Every command is answered once, or its reply dropped at the end. A command to a domain that
///     does not answer is refused within the observer's limit.
/// 16. A domain that cannot be read now stays published, and its groups grow old. Only a domain
///     that has ended, or is no longer observed, is retired.
/// 17. [`Observation::ask_to_stop`] does not wait. The observer ends within a second of it,
///     whatever the domain does, and writes nothing afterwards.
pub trait Observer {
    /// Begins to observe, on a thread of its own.
    ///
    /// # Errors
    /// [`SourceError`] if the host has no thread or descriptor left.
    fn observe<P: Publisher>(self, publisher: P) -> Result<Box<dyn Observation>, SourceError>;
}

/// A domain under observation, as other threads see it. Dropping it ends the observation.
pub trait Observation: Send + Sync {
    /// Where the domain is reached: for QEMU, its QMP socket.
    fn address(&self) -> &Path;

    /// What is known of it now.
    fn status(&self) -> ObserverStatus;

    /// Hands over a command, which is answered through its own reply.
    fn command(&self, command: Command);

    /// Asks the observer to end, without waiting for it.
    fn ask_to_stop(&self);

    /// Whether it has ended.
    fn has_ended(&self) -> bool;
}

/// What is known of an observed domain from outside its thread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObserverStatus {
    /// The domain's name, while it is published.
    pub domain: Option<String>,
    /// Whether it is connected.
    pub connected: bool,
}
