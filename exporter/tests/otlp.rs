//! Points pushed to a collector of the test's own, which decodes what it is sent.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failure is a failed test"
)]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::thread::JoinHandle;

use domstat_exporter::families::FAMILIES;
use domstat_exporter::otlp::{Collector, PushError, name};
use domstat_exporter::{Exporter, otlp};
use domstat_layout::latest::{Memory, Runstate};
use domstat_layout::{Clock, Group, Ns, Word};
use domstat_producer::RegionBuilder;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use prost::Message;

#[cfg(feature = "tls")]
#[path = "../../tests/src/skip.rs"]
mod skip;

/// The head and the body of each request.
type Requests = JoinHandle<Vec<(String, Vec<u8>)>>;

/// Takes `requests` requests and answers with `status`; gives their heads and bodies.
fn collector(requests: usize, status: &'static str) -> (String, Requests) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/v1/metrics", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let take = |_| {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream);
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                reader.read_line(&mut head).unwrap();
            }
            let head = head.to_ascii_lowercase();
            let length = head.split("content-length: ").nth(1).unwrap().split("\r\n").next();
            let mut body = vec![0; length.unwrap().parse().unwrap()];
            reader.read_exact(&mut body).unwrap();
            write!(reader.get_mut(), "HTTP/1.1 {status}\r\ncontent-length: 3\r\n\r\nbad").unwrap();
            (head, body)
        };
        (0..requests).map(take).collect()
    });
    (address, thread)
}

fn metrics(body: &[u8]) -> Vec<Metric> {
    let request = ExportMetricsServiceRequest::decode(body).unwrap();
    let scopes = request.resource_metrics.into_iter().flat_map(|r| r.scope_metrics);
    scopes.flat_map(|s| s.metrics).collect()
}

#[test]
fn a_collector_gets_every_point() {
    let dir = tempfile::tempdir().unwrap();
    let now = domstat_consumer::clock::now(Clock::Monotonic).unwrap();
    let mut created =
        RegionBuilder::new("web1").uuid([1; 16]).clock(Clock::Monotonic).create_memfd().unwrap();
    let memory =
        Memory { rss_bytes: Word::from(4096), major_faults: Word::from(7), ..Memory::NOT_PRODUCED };
    created.dom.write(&memory, now);
    let runstate = Runstate {
        state: Word::from(2),
        running_ns: Word::from(1_500_000_000),
        ..Runstate::NOT_PRODUCED
    };
    created.vcpus[0].write(&runstate, now);
    let region = created.unpublished.publish().unwrap();
    let _announcement = region.announce(dir.path(), "web1").unwrap();

    let exporter = Exporter::new(dir.path());
    let view = exporter.pass();
    let (address, thread) = collector(1, "200 OK");
    let collector = Collector::new(&address).unwrap().with_token("s3cret".to_owned()).unwrap();
    collector.push(&view, &[("service.name", "domstat")]).unwrap();
    let requests = thread.join().unwrap();
    let (head, body) = &requests[0];
    assert!(head.starts_with("post /v1/metrics") && head.contains("application/x-protobuf"));
    assert!(head.contains("authorization: bearer s3cret"));
    let metrics = metrics(body);
    let find = |name: &str| metrics.iter().find(|m| m.name == name).unwrap();

    let rss = find("domstat.domain.memory.rss");
    assert_eq!(rss.unit, "By");
    let Some(Data::Gauge(gauge)) = &rss.data else { panic!("{rss:?}") };
    assert_eq!(gauge.data_points[0].value, Some(Number::AsInt(4096)));

    let time = find("domstat.vcpu.state.time");
    assert_eq!(time.unit, "s");
    let Some(Data::Sum(sum)) = &time.data else { panic!("{time:?}") };
    assert!(sum.is_monotonic && sum.aggregation_temporality == 2);
    let point = &sum.data_points[0];
    assert_eq!(point.value, Some(Number::AsDouble(1.5)));
    assert!(0 < point.start_time_unix_nano && point.start_time_unix_nano < point.time_unix_nano);
    let attribute = |key: &str| {
        let found = point.attributes.iter().find(|a| a.key == key)?;
        found.value.as_ref()?.value.clone()
    };
    assert_eq!(attribute("domain"), Some(Any::StringValue("web1".to_owned())));
    assert_eq!(attribute("vcpu"), Some(Any::IntValue(0)));
    assert_eq!(attribute("state"), Some(Any::StringValue("running".to_owned())));
    assert!(!metrics.iter().any(|m| m.name.contains("unused")), "absent is no point");
}

#[test]
fn many_points_are_many_requests() {
    let dir = tempfile::tempdir().unwrap();
    let mut created = RegionBuilder::new("big").vcpus(3000).create_memfd().unwrap();
    for vcpu in &mut created.vcpus {
        vcpu.write(&Runstate { state: Word::from(0), ..Runstate::NOT_PRODUCED }, Ns(1));
        vcpu.set(Runstate::running_ns, 1, Ns(1));
        vcpu.set(Runstate::runnable_ns, 1, Ns(1));
    }
    let region = created.unpublished.publish().unwrap();
    let _announcement = region.announce(dir.path(), "big").unwrap();
    let view = Exporter::new(dir.path()).pass();
    let (mut requests, mut points) = (0, 0);
    let took = otlp::requests(&view, Default::default(), &[], |request| {
        requests += 1;
        for metric in metrics(&request.encode_to_vec()) {
            points += match metric.data {
                Some(Data::Sum(sum)) => sum.data_points.len(),
                Some(Data::Gauge(gauge)) => gauge.data_points.len(),
                _ => 0,
            };
        }
        Ok::<_, ()>(())
    });
    assert_eq!(took, Ok(()));
    assert_eq!(requests, 3);
    assert!((12_000..12_100).contains(&points), "{points}");
}

#[test]
fn what_goes_wrong_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let view = Exporter::new(dir.path()).pass();
    for bad in ["ftp://127.0.0.1:1/v1/metrics", "127.0.0.1", "http://", ""] {
        assert!(matches!(Collector::new(bad), Err(PushError::Address(_))), "{bad}");
    }
    let (address, thread) = collector(1, "400 Bad Request");
    let refused = Collector::new(&address).unwrap().push(&view, &[]);
    thread.join().unwrap();
    assert!(refused.unwrap_err().to_string().ends_with("answered 400: bad"));
    let nobody = Collector::new(&address).unwrap().push(&view, &[]);
    assert!(matches!(nobody, Err(PushError::Transport { .. })));
}

#[test]
fn a_token_is_not_sent_in_clear_unless_that_is_asked_for() {
    let token = || "s3cret".to_owned();
    let with = |address: &str| Collector::new(address).unwrap().with_token(token());
    for network in
        ["http://collector.example:4318/v1/metrics", "http://192.0.2.1/", "http://[2001:db8::1]/"]
    {
        assert!(matches!(with(network), Err(PushError::InClear(_))), "{network}");
        let _ = Collector::new(network).unwrap().with_token_in_clear(token());
    }
    for safe in [
        "https://collector.example/",
        "http://127.0.0.1/",
        "http://[::1]:4318/",
        "http://localhost/",
    ] {
        assert!(with(safe).is_ok(), "{safe}");
    }
}

#[test]
fn the_whole_address_counts() {
    let dir = tempfile::tempdir().unwrap();
    let scrape = Exporter::new(dir.path()).pass();
    let (address, thread) = collector(1, "200 OK");
    let address = address.replace("http://", "http://user:pass@");
    Collector::new(&format!("{address}?tenant=a%20b")).unwrap().push(&scrape, &[]).unwrap();
    let (head, _) = &thread.join().unwrap()[0];
    assert!(head.starts_with("post /v1/metrics?tenant=a%20b http/1.1\r\n"), "{head}");
    // "user:pass" as base64, in lower case.
    assert!(head.contains("authorization: basic dxnlcjpwyxnz\r\n"), "{head}");
    let host = head.split("host: ").nth(1).unwrap().split("\r\n").next().unwrap();
    assert!(host.starts_with("127.0.0.1:"), "{host}");
    // Nobody is there any more; the message does not show the password.
    let error = Collector::new(&address).unwrap().push(&scrape, &[]).unwrap_err().to_string();
    assert!(error.contains("http://127.0.0.1:") && !error.contains("pass"), "{error}");
}

#[test]
fn names_differ() {
    let names: Vec<String> = FAMILIES.into_iter().flatten().map(name).collect();
    let different: BTreeSet<&String> = names.iter().collect();
    assert_eq!(different.len(), names.len());
    assert!(names.iter().all(|name| !name.contains('_') && !name.contains("total")));
}

/// Where the child of the test below pushes to.
const COLLECTOR: &str = "DOMSTAT_TEST_COLLECTOR";

/// Not a test of its own: pushes once, in a process whose environment names whom to trust.
#[test]
fn push_once() {
    let Ok(address) = std::env::var(COLLECTOR) else { return };
    let dir = tempfile::tempdir().unwrap();
    let scrape = Exporter::new(dir.path()).pass();
    let collector = Collector::new(&address).unwrap().with_token("s3cret".to_owned()).unwrap();
    let pushed = collector.push(&scrape, &[]);
    println!("\npushed {pushed:?}");
}

/// Runs openssl in `dir`; false where it is not there or fails.
#[cfg(feature = "tls")]
fn openssl(dir: &std::path::Path, args: &str) -> bool {
    let mut command = std::process::Command::new("openssl");
    command.args(args.split(' ')).current_dir(dir).output().is_ok_and(|made| made.status.success())
}

#[test]
#[cfg(feature = "tls")]
fn a_collector_is_trusted_over_tls_if_the_system_trusts_who_vouches_for_it() {
    use std::sync::Arc;
    use tokio_rustls::rustls::pki_types::pem::PemObject;
    use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned, crypto::ring};

    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::write(at("san"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    let authority = |name: &str| {
        format!("req -x509 {key} -days 2 -subj /CN={name} -keyout {name}.key -out {name}.pem")
    };
    let made = [
        authority("own"),
        authority("other"),
        format!("req {key} -subj /CN=localhost -keyout leaf.key -out leaf.csr"),
        "x509 -req -in leaf.csr -CA own.pem -CAkey own.key -CAcreateserial -days 2 \
         -extfile san -out leaf.pem"
            .to_owned(),
    ];
    if !made.iter().all(|args| openssl(dir.path(), args)) {
        return skip::skip("openssl", "there is no openssl to make certificates with");
    }
    let certificate = CertificateDer::from_pem_file(at("leaf.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(at("leaf.key")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("https://{}/v1/metrics", listener.local_addr().unwrap());
    let push = |trusted: &str| {
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "push_once", "--nocapture"]).env(COLLECTOR, &address);
        command.env("SSL_CERT_FILE", at(trusted)).env_remove("SSL_CERT_DIR");
        command.stdout(std::process::Stdio::piped()).spawn().unwrap()
    };
    // What the collector was sent, and what the child says of it.
    let exchange = |trusted: &str| {
        let child = push(trusted);
        let (stream, _) = listener.accept().unwrap();
        let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut reader = BufReader::new(StreamOwned::new(connection, stream));
        let (mut head, mut line) = (String::new(), 1);
        while line > 0 && !head.ends_with("\r\n\r\n") {
            line = reader.read_line(&mut head).unwrap_or(0);
        }
        if line > 0 {
            let head = head.to_ascii_lowercase();
            let length = head.split("content-length: ").nth(1).unwrap().split("\r\n").next();
            let mut body = vec![0; length.unwrap().parse().unwrap()];
            reader.read_exact(&mut body).unwrap();
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
            reader.get_mut().write_all(answer).unwrap();
        }
        let said = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
        (head.to_ascii_lowercase(), said)
    };
    let (head, said) = exchange("own.pem");
    assert!(said.contains("pushed Ok"), "{said}");
    assert!(head.contains("authorization: bearer s3cret\r\n"), "{head}");
    let (head, said) = exchange("other.pem");
    assert!(said.contains("pushed Err(Transport"), "{said}");
    assert_eq!(head, "", "nothing is sent to a collector that nobody vouches for");
}
