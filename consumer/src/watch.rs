//! Events of regions: notifications, exits of producers, thresholds.

mod events;
mod futex;
mod threshold;

pub use events::{Event, Events};
pub use futex::Waited;
pub use threshold::{Threshold, ThresholdError, ThresholdEvent, ThresholdWatch};
