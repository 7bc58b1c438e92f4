//! The hand-over protocol's messages: whatever parses keeps the protocol's promises, and means the
//! same when it is written again.

use domstat_layout::handover::{
    MAX_DOMAIN_FDS, MAX_MESSAGE, MAX_NAME, MessageError, Reply, Request, is_name,
};

/// The target.
///
/// # Panics
/// When something does not hold.
pub fn target(data: &[u8]) {
    let mut buffer = [0; MAX_MESSAGE];
    match Request::parse(data) {
        Ok((id, request)) => {
            if let Request::Attach { name, .. } = request {
                assert_name(name);
            }
            let again = request.encode(id, &mut buffer).expect("what was parsed can be written");
            assert!(again.len() <= data.len(), "longer than what it was parsed from");
            assert_eq!(Request::parse(again), Ok((id, request)));
        }
        Err(error) => assert_error(data, error),
    }
    match Reply::parse(data) {
        Ok((id, reply)) => {
            match reply {
                Reply::Domain(domain) => {
                    assert_name(domain.name);
                    assert!((1..=MAX_DOMAIN_FDS).contains(&domain.nr_fds));
                }
                Reply::Gone { name, .. } => assert_name(name),
                _ => {}
            }
            let again = reply.encode(id, &mut buffer).expect("what was parsed can be written");
            // Reserved words are written whether they were there or not.
            assert!(again.len() <= data.len() + 4);
            assert_eq!(Reply::parse(again), Ok((id, reply)));
        }
        Err(error) => assert_error(data, error),
    }
}

fn assert_name(name: &str) {
    assert!(is_name(name) && name.len() <= MAX_NAME && !name.contains('\0'));
}

fn assert_error(data: &[u8], error: MessageError) {
    assert!(!error.to_string().is_empty());
    match error {
        MessageError::TooShort { found, needed } => assert!(found == data.len() && needed > found),
        MessageError::Length { stated, found } => {
            assert!(found == data.len() && u64::from(stated) != found as u64);
        }
        _ => {}
    }
}
