//! Lines of the control protocol: whatever parses means the same when it is written again, on one
//! line.

use std::fmt::Debug;

use domstat_sources::contract::{DiskInfo, JobAborted, JobStatus, ThresholdSet};
use domstat_sources::control::{Answer, DomainLine, EventLine, Request, Subscribed, line, parse};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The target.
///
/// # Panics
/// When something does not hold.
pub fn target(data: &[u8]) {
    match Request::parse(data) {
        Ok(request) => assert_eq!(Request::parse(written(&request).as_bytes()), Ok(request)),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    again::<Answer<Vec<DomainLine>>>(data);
    again::<Answer<Vec<DiskInfo>>>(data);
    again::<Answer<Vec<JobStatus>>>(data);
    again::<Answer<ThresholdSet>>(data);
    again::<Answer<JobAborted>>(data);
    again::<Answer<Subscribed>>(data);
    again::<EventLine>(data);
}

fn again<T: DeserializeOwned + Serialize + PartialEq + Debug>(data: &[u8]) {
    let Ok(message) = parse::<T>(data) else { return };
    let again = parse::<T>(written(&message).as_bytes()).expect("what was parsed can be written");
    assert_eq!(message, again);
}

fn written(message: &impl Serialize) -> String {
    let line = line(message);
    assert!(line.ends_with('\n') && line.lines().count() == 1, "{line:?}");
    line
}
