use super::*;

fn domain(name: &str) -> Reply<'_> {
    Reply::Domain(Domain { incarnation: 7, len: 8192, nr_fds: 3, name })
}

#[test]
fn what_is_encoded_is_parsed() {
    let long = "x".repeat(MAX_NAME);
    for reply in [
        Reply::Welcome { max_message: 512 },
        domain("web1"),
        domain(&long),
        Reply::Frames { first: 64 },
        Reply::End { nr: 2 },
        Reply::Gone { incarnation: 9, name: "web1" },
        Reply::Error(Refusal::Busy),
        Reply::Error(Refusal::Other(77)),
    ] {
        let mut buffer = [0; MAX_MESSAGE];
        assert_eq!(Reply::parse(reply.encode(5, &mut buffer).unwrap()), Ok((5, reply)));
    }
    for request in [
        Request::List { follow: false },
        Request::List { follow: true },
        Request::Attach { incarnation: 0, name: &long },
    ] {
        let mut buffer = [0; MAX_MESSAGE];
        assert_eq!(Request::parse(request.encode(6, &mut buffer).unwrap()), Ok((6, request)));
    }
}

#[test]
fn a_message_of_a_later_build_is_understood() {
    let mut buffer = [0; MAX_MESSAGE];
    let len = domain("web1").encode(1, &mut buffer).unwrap().len();
    buffer[4] = 2;
    buffer[8] = u8::try_from(len + 8).unwrap();
    assert_eq!(Reply::parse(&buffer[..len + 8]), Ok((1, domain("web1"))));
}

#[test]
fn what_is_not_a_message_is_named() {
    let mut buffer = [0; MAX_MESSAGE];
    assert!(Request::Attach { incarnation: 0, name: "" }.encode(1, &mut buffer).is_none());
    assert!(domain("a\0b").encode(1, &mut buffer).is_none());
    let whole = domain("web1").encode(1, &mut buffer).unwrap().to_vec();
    for len in 0..whole.len() {
        let error = Reply::parse(&whole[..len]).unwrap_err();
        let short = matches!(error, MessageError::TooShort { .. });
        assert!(short || matches!(error, MessageError::Length { .. }), "{len}: {error}");
    }
    let changed = |at: usize, byte: u8| {
        let mut bytes = whole.clone();
        bytes[at] = byte;
        Reply::parse(&bytes).map(|_| ()).unwrap_err()
    };
    assert!(matches!(changed(0, b'X'), MessageError::Magic { .. }));
    assert!(matches!(changed(6, 99), MessageError::Kind { kind: 99, id: 1 }));
    assert!(matches!(changed(6, 1), MessageError::Kind { kind: 1, .. }));
    assert!(matches!(changed(11, 0x80), MessageError::Length { .. }));
    assert!(matches!(changed(32, 0), MessageError::Descriptors { found: 0 }));
    assert!(matches!(changed(35, 0xff), MessageError::Descriptors { .. }));
    assert!(matches!(changed(36, 0), MessageError::Name));
    assert!(matches!(changed(36, 5), MessageError::TooShort { .. }));
    assert!(matches!(changed(39, 0x80), MessageError::Name), "a length that wraps");
    assert!(matches!(changed(40, 0xff), MessageError::Name), "no UTF-8");
    assert!(matches!(changed(41, 0), MessageError::Name));
}
