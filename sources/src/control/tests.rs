use super::*;
use crate::contract::{ErrorCode, JobAborted, JobOutcome};

fn round<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T, text: &str) {
    assert_eq!(line(value), format!("{text}\n"));
    assert_eq!(parse::<T>(text.as_bytes()).unwrap(), *value);
}

#[test]
fn requests_are_the_lines_that_clients_send() {
    let domain = "web1".to_owned();
    let disk = "vda".to_owned();
    round(&Request::Domains, r#"{"op":"domains"}"#);
    round(&Request::BlockList { domain: domain.clone() }, r#"{"op":"block-list","domain":"web1"}"#);
    let set = Request::BlockThreshold { domain: domain.clone(), disk, threshold: 80_000, flags: 1 };
    round(
        &set,
        r#"{"op":"block-threshold","domain":"web1","disk":"vda","threshold":80000,"flags":1}"#,
    );
    let short = br#"{"op":"block-job-abort","domain":"web1","disk":"vda"}"#;
    let Request::BlockJobAbort { flags: 0, timeout_ms: None, .. } = Request::parse(short).unwrap()
    else {
        panic!("defaults")
    };
    assert_eq!(
        Request::parse(br#"{"op":"subscribe"}"#).unwrap(),
        Request::Subscribe { domain: None, from: None }
    );
    let from = Cursor { epoch: Some("e1".to_owned()), number: 7 };
    assert_eq!(("e1:7".parse(), from.to_string()), (Ok(from.clone()), "e1:7".to_owned()));
    let all = Request::Subscribe { domain: None, from: Some(from) };
    round(&all, r#"{"op":"subscribe","domain":null,"from":{"epoch":"e1","number":7}}"#);
    for bad in [":7", "e1:", "e1:-1", "x", ""] {
        assert!(bad.parse::<Cursor>().is_err(), "{bad}");
    }
    for bad in ["", "[]", r#"{"op":"x"}"#, r#"{"op":"block-list"}"#, "\u{0}", r#"{"domain":"d"}"#] {
        assert_eq!(Request::parse(bad.as_bytes()).unwrap_err().code, ErrorCode::Invalid, "{bad}");
    }
}

#[test]
fn answers_say_ok_or_error() {
    let error = ControlError::new(ErrorCode::NoJob, "none");
    round(&Answer::<Subscribed>::Error(error), r#"{"error":{"code":"no_job","message":"none"}}"#);
    let subscribed = Subscribed { subscribed: None, next: None };
    round(&Answer::Ok(subscribed), r#"{"ok":{"subscribed":null}}"#);
    let ended =
        JobAborted::Ended { job: "j".to_owned(), outcome: JobOutcome::Canceled, error: None };
    round(&Answer::Ok(ended), r#"{"ok":{"job":"j","outcome":"canceled","error":null}}"#);
    let accepted = JobAborted::Accepted { job: "j".to_owned(), accepted: true };
    round(&Answer::Ok(accepted), r#"{"ok":{"job":"j","accepted":true}}"#);
    let later: ControlError = parse(br#"{"code":"of 2030","message":"m"}"#).unwrap();
    assert_eq!(later.code, ErrorCode::Other);
}

#[test]
fn events_carry_their_domain_and_later_ones_are_unknown() {
    let event = Event::JobEnded {
        disk: None,
        job: "j".to_owned(),
        kind: "mirror".to_owned(),
        outcome: JobOutcome::DomainGone,
        error: None,
        reconciled: false,
    };
    round(
        &EventLine { domain: "web1".to_owned(), at: None, event },
        r#"{"domain":"web1","event":"job_ended","disk":null,"job":"j","kind":"mirror","outcome":"domain_gone","error":null,"reconciled":false}"#,
    );
    let at = Some(Cursor { epoch: Some("e1".to_owned()), number: 7 });
    round(
        &EventLine { domain: "web1".to_owned(), at, event: Event::Connected },
        r#"{"domain":"web1","epoch":"e1","number":7,"event":"connected"}"#,
    );
    let ends = EventLine { domain: String::new(), at: None, event: Event::DaemonEnds };
    round(&ends, r#"{"event":"daemon_ends"}"#);
    let later: EventLine =
        parse(br#"{"domain":"web1","event":"of 2030","how":{"much":[1]}}"#).unwrap();
    assert_eq!(later.event, Event::Unknown);
}
