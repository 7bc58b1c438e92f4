//! What the exporter serves, and to whom.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use common::http::{Export, OPENMETRICS, get, request, self_signed};
use common::made_up::{MadeUp, UUID_TEXT, builder, many_series};
use common::{Background, domstat, output, skip, stderr, stdout, wait_for};
use domstat_layout::latest::{BlkIdentity, BlkIo, Memory, Runstate};
use domstat_layout::{Group, Name, Ns, Word};
use domstat_producer::RegionBuilder;

/// The value of the series that starts like this.
fn value(text: &str, series: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(series))?;
    line.rsplit_once(' ').map(|(_, value)| value.to_owned())
}

#[test]
fn one_domain_whole() {
    let dir = tempfile::tempdir().unwrap();
    let export = Export::start(dir.path(), &["--include", "default,exits"]);
    assert!(export.scrape().ends_with("# EOF\n"), "without any domain, too");
    let _domain = MadeUp::start(dir.path(), "web1", "web1");
    let text = export.scrape();
    let who = format!("{{domain=\"web1\",uuid=\"{UUID_TEXT}\"");
    for series in [
        format!("domstat_up{who}}} 1"),
        format!("domstat_domain_state{who},domstat_domain_state=\"live\"}} 1"),
        format!("domstat_domain_state{who},domstat_domain_state=\"retired\"}} 0"),
        format!("domstat_domain_vcpus{who}}} 2"),
        format!("domstat_domain_memory_current_bytes{who}}} 1073741824"),
        format!("domstat_saturated_fields{who}}} 1"),
        format!("domstat_block_threshold_bytes{who},device=\"vda\"}} 950"),
        format!("domstat_network_receive_bytes_total{who},device=\"vnet0\"}} "),
        format!("domstat_vcpu_exits_total{who},vcpu=\"1\",reason=\"mmio\"}} "),
        format!("domstat_vcpu_state_seconds_total{who},vcpu=\"0\",state=\"runnable\"}} 0."),
        "# TYPE domstat_domain_state stateset".to_owned(),
        "# UNIT domstat_vcpu_state_seconds seconds".to_owned(),
    ] {
        assert!(text.lines().any(|line| line.starts_with(&series)), "{series}\n{text}");
    }
    // Absent: what is not produced, what is saturated.
    for absent in ["memory_unused", "emulated_instructions", "swap_in", "swap_out", "physical"] {
        assert!(!text.contains(absent), "{absent}");
    }
    // Nanoseconds are exact to the last digit.
    let seconds = value(&text, "domstat_domain_cpu_time_seconds_total").unwrap();
    assert_eq!(seconds.split_once('.').unwrap().1.len(), 9);
}

#[test]
fn groups_and_vcpus_are_selected() {
    let dir = tempfile::tempdir().unwrap();
    let _domain = MadeUp::start(dir.path(), "web1", "web1");
    let scrape = |args: &[&str]| Export::start(dir.path(), args).scrape();
    let each = scrape(&[]);
    let sum = scrape(&["--vcpus", "sum", "--include", "default,exits", "--exclude", "net.*"]);
    let who = format!("{{domain=\"web1\",uuid=\"{UUID_TEXT}\"");
    for (series, of_each, of_sum) in [
        (format!("domstat_vcpu_state_seconds_total{who},state=\"running\"}}"), false, true),
        (
            format!("domstat_vcpu_state_seconds_total{who},vcpu=\"1\",state=\"running\"}}"),
            true,
            false,
        ),
        (format!("domstat_vcpu_exits_total{who}"), false, true),
        (format!("domstat_network_receive_bytes_total{who}"), true, false),
        (format!("domstat_block_reads_total{who}"), true, true),
    ] {
        assert_eq!(value(&each, &series).is_some(), of_each, "{series}\n{each}");
        assert_eq!(value(&sum, &series).is_some(), of_sum, "{series}\n{sum}");
    }
    assert!(!sum.contains("vcpu=\""), "{sum}");
    let wrong = output(dir.path(), &["export", "--include", "dom.memory,memroy"]);
    assert_eq!(wrong.status.code(), Some(2));
    let said = stderr(&wrong);
    assert!(said.contains("\"memroy\"") && said.contains("dom.memory, dom.cpu"), "{said}");
}

#[test]
fn counters_never_go_back() {
    let dir = tempfile::tempdir().unwrap();
    let export = Export::start(dir.path(), &[]);
    let mut created =
        RegionBuilder::new("d").clock(domstat_layout::Clock::Monotonic).create_memfd().unwrap();
    let now = || domstat_consumer::clock::now(domstat_layout::Clock::Monotonic).unwrap();
    let runstate = |running: u64, blocked: u64| Runstate {
        state: Word::from(0),
        running_ns: Word::from(running),
        blocked_ns: Word::from(blocked),
        ..Runstate::NOT_PRODUCED
    };
    created.vcpus[0].write(&runstate(1_000_000_000, 5), Ns(now().0 - 9_000_000_000));
    let region = created.unpublished.publish().unwrap();
    let _announcement = region.announce(dir.path(), "d").unwrap();
    let running = || -> f64 {
        let series = "domstat_vcpu_state_seconds_total{domain=\"d\",vcpu=\"0\",state=\"running\"}";
        value(&export.scrape(), series).unwrap().parse().unwrap()
    };
    let first = running();
    assert!(first >= 10.0, "nine seconds have passed in the state that was written: {first}");
    // The next write says that it was blocked for most of that time.
    created.vcpus[0].write(&runstate(2_000_000_000, 8_000_000_000), now());
    assert!(running() >= first);
    // Another tenant of the slot starts over, and `_created` says when.
    let began = |text: &str| {
        let series =
            "domstat_vcpu_state_seconds_created{domain=\"d\",vcpu=\"0\",state=\"running\"}";
        value(text, series).unwrap().parse::<f64>().unwrap()
    };
    let before = began(&export.scrape());
    created.vcpus[0].renew();
    created.vcpus[0].write(&runstate(0, 0), now());
    assert!(running() < first);
    assert!(began(&export.scrape()) > before);
}

/// The value of the series that starts like this, as a number.
fn seconds(text: &str, series: &str) -> f64 {
    value(text, series).unwrap_or_else(|| "-1".to_owned()).parse().unwrap()
}

#[test]
fn a_frozen_producer_does_not_look_busy() {
    let dir = tempfile::tempdir().unwrap();
    let export = Export::start(dir.path(), &[]);
    let mut created =
        RegionBuilder::new("d").clock(domstat_layout::Clock::Monotonic).create_memfd().unwrap();
    let now = domstat_producer::now(domstat_layout::Clock::Monotonic).unwrap();
    // Running, as of a write a minute ago; nothing since.
    let runstate = Runstate {
        state: Word::from(0),
        running_ns: Word::from(1_000_000_000),
        ..Runstate::NOT_PRODUCED
    };
    created.vcpus[0].write(&runstate, Ns(now.0.saturating_sub(60_000_000_000)));
    let region = created.unpublished.publish().unwrap();
    let _announcement = region.announce(dir.path(), "d").unwrap();
    let text = export.scrape();
    let running = "domstat_vcpu_state_seconds_total{domain=\"d\",vcpu=\"0\",state=\"running\"}";
    assert_eq!(seconds(&text, running), 1.0, "a minute that nobody measured is not running time");
    let state = |state: &str| {
        let series =
            format!("domstat_domain_state{{domain=\"d\",domstat_domain_state=\"{state}\"}}");
        value(&text, &series).unwrap()
    };
    assert_eq!([state("stale"), state("live")], ["1", "0"]);
    assert_eq!(value(&text, "domstat_up{domain=\"d\"}").unwrap(), "1");
    // Its age is visible all the while.
    let age = "domstat_stats_age_seconds{domain=\"d\",group=\"vcpu.runstate\"}";
    assert!(seconds(&text, age) >= 60.0, "{text}");
    // When it writes again its times go on.
    let now = domstat_producer::now(domstat_layout::Clock::Monotonic).unwrap();
    created.vcpus[0].write(&runstate, Ns(now.0.saturating_sub(2_000_000_000)));
    assert!(seconds(&export.scrape(), running) >= 3.0);
}

#[test]
fn metrics_and_ls_use_the_same_words() {
    let dir = tempfile::tempdir().unwrap();
    let _domain = MadeUp::start(dir.path(), "web1", "web1");
    // The copy of a region: a live header that no producer holds.
    let path = dir.path().join("original");
    let region = builder("unheld").create_file(&path).unwrap().unpublished.publish().unwrap();
    std::fs::copy(&path, dir.path().join("unheld.domstat")).unwrap();
    std::fs::write(dir.path().join("junk.domstat"), "junk").unwrap();
    let export = Export::start(dir.path(), &[]);
    let text = export.scrape();
    let states: Vec<(String, String)> = text
        .lines()
        .filter(|line| line.starts_with("domstat_domain_state{") && line.ends_with(" 1"))
        .map(|line| {
            let label = |name: &str| {
                let (_, rest) = line.split_once(&format!("{name}=\"")).unwrap();
                rest.split('"').next().unwrap().to_owned()
            };
            (label("domain"), label("domstat_domain_state"))
        })
        .collect();
    let named = |name: &str| {
        let mut states = states.iter().filter(|(domain, _)| domain == name);
        (states.next().unwrap().1.clone(), states.next().is_none())
    };
    assert_eq!(named("web1"), ("live".to_owned(), true));
    assert_eq!(named("junk"), ("invalid".to_owned(), true));
    let (unheld, _) = named("unheld");
    let listed = stdout(&output(dir.path(), &["ls", "--json"]));
    assert_eq!(unheld, "unheld", "{listed}");
    let listed = stdout(&output(dir.path(), &["ls", "--json"]));
    assert!(listed.contains(&format!("\"{unheld}\"")), "{unheld}: {listed}");
    assert_eq!(value(&text, "domstat_up{domain=\"junk\"}").as_deref(), Some("0"));
    drop(region);
}

#[test]
fn names_are_data() {
    let dir = tempfile::tempdir().unwrap();
    let mut created = RegionBuilder::new("a\"b\\c\nd").blks(4).create_memfd().unwrap();
    let io = |n: u64| BlkIo { rd_req: Word::from(n), ..BlkIo::NOT_PRODUCED };
    for (i, name) in ["vda", "vda", ""].into_iter().enumerate() {
        created.blks[i].write(&BlkIdentity { name: Name::new(name) }, Ns(1));
    }
    for (i, blk) in (0..).zip(&mut created.blks) {
        blk.write(&io(i), Ns(1));
    }
    let region = created.unpublished.publish().unwrap();
    let _announcement = region.announce(dir.path(), "entry").unwrap();
    std::fs::write(dir.path().join("junk.domstat"), "junk").unwrap();
    let text = Export::start(dir.path(), &[]).scrape();
    let reads = |device: &str| {
        let series =
            format!("domstat_block_reads_total{{domain=\"a\\\"b\\\\c\\nd\",device=\"{device}\"}}");
        value(&text, &series)
    };
    let found = ["vda", "vda#1", "#2", "#3"].map(reads);
    assert_eq!(found, ["0", "1", "2", "3"].map(|n| Some(n.to_owned())), "{text}");
    assert_eq!(value(&text, "domstat_up{domain=\"junk\"}").as_deref(), Some("0"));
    let invalid = "domstat_read_failures_total{domain=\"junk\",reason=\"invalid\"}";
    assert_eq!(value(&text, invalid).as_deref(), Some("1"));
}

#[test]
fn a_stalled_writer_costs_its_own_group_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.domstat");
    let mut created = builder("s").create_file(&path).unwrap();
    created.dom.write(&Memory { rss_bytes: Word::from(5), ..Memory::NOT_PRODUCED }, Ns(1));
    created.blks[0].write(&BlkIo::NOT_PRODUCED, Ns(1));
    let region = created.unpublished.publish().unwrap();
    // As a producer that died there leaves it: seq odd, the bit set.
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    let seq = Memory::DESC.offset as u64;
    std::os::unix::fs::FileExt::write_all_at(&file, &7u32.to_le_bytes(), seq).unwrap();
    let _other = MadeUp::start(dir.path(), "web1", "web1");
    let text = Export::start(dir.path(), &[]).scrape();
    let who = format!("domain=\"s\",uuid=\"{UUID_TEXT}\"");
    let series = |name: &str, more: &str| value(&text, &format!("{name}{{{who}{more}}}"));
    assert_eq!(series("domstat_up", "").as_deref(), Some("1"), "{text}");
    assert_eq!(series("domstat_domain_memory_rss_bytes", ""), None);
    let failed = series("domstat_read_failures_total", ",reason=\"stalled\"");
    assert_eq!(failed.as_deref(), Some("1"));
    assert!(series("domstat_read_retries_total", "").unwrap().parse::<u64>().unwrap() > 0);
    assert!(text.contains("domstat_domain_memory_rss_bytes{domain=\"web1\""), "{text}");
    drop(region);
}

#[test]
fn who_may_ask_for_what() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "s3cret\n").unwrap();
    let export = Export::start(dir.path(), &["--token-file", file.to_str().unwrap()]);
    let status = |path: &str, head: &[&str]| get(export.at, path, head).unwrap().status;
    let right = "Authorization: Bearer s3cret";
    assert_eq!(status("/metrics", &[]), 401);
    for wrong in ["Bearer s3cre", "Bearer s3cret2", "Basic s3cret", "Bearer "] {
        assert_eq!(status("/metrics", &[&format!("Authorization: {wrong}")]), 401, "{wrong}");
    }
    assert_eq!(status("/metrics", &[right]), 200);
    assert_eq!(status("/", &[right]), 200);
    assert_eq!(status("/-/healthy", &[right]), 200);
    assert_eq!(status("/nothing", &[right]), 404);
    assert_eq!(request(export.at, "POST", "/metrics", &[right]).unwrap().status, 405);
    assert_eq!(request(export.at, "HEAD", "/metrics", &[right]).unwrap().body, "");
    let long = format!("X: {}", "x".repeat(100_000));
    // The rest of such a request is not read: its sender may see a reset before the answer.
    let answer = get(export.at, "/metrics", &[right, &long]);
    assert!(answer.is_err() || answer.is_ok_and(|a| a.status == 431), "too long a head");
    assert_eq!(status("/metrics", &[right]), 200);
    let content_type = |head: &[&str]| get(export.at, "/metrics", head).unwrap().head;
    assert!(content_type(&[right]).contains("content-type: text/plain; version=0.0.4"));
    let accept = format!("Accept: {OPENMETRICS}");
    assert!(content_type(&[right, &accept]).contains("application/openmetrics-text"));

    std::fs::write(&file, "\n").unwrap();
    let args = ["export", "--token-file", file.to_str().unwrap()];
    let empty = output(dir.path(), &args);
    assert_eq!(empty.status.code(), Some(4));
    assert!(stderr(&empty).contains("holds no token"), "{}", stderr(&empty));
}

#[test]
fn a_client_that_does_not_read_loses_its_slot_and_a_crowd_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    // More than sockets hold.
    let _many = many_series(dir.path(), "many");
    let export = Export::start(dir.path(), &["--max-scrapes", "1", "--timeout", "600"]);
    let mut idle = TcpStream::connect(export.at).unwrap();
    write!(idle, "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: {OPENMETRICS}\r\n\r\n").unwrap();
    idle.read_exact(&mut [0; 1]).unwrap();
    // More requests at once than may wait for the slot.
    let crowd = (0..24).map(|_| {
        let mut stream = TcpStream::connect(export.at).unwrap();
        write!(stream, "GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        stream
    });
    let crowd: Vec<TcpStream> = crowd.collect();
    let read = |mut stream: TcpStream| {
        let mut text = String::new();
        let _ = stream.read_to_string(&mut text);
        text.to_ascii_lowercase()
    };
    let answers: Vec<String> = crowd.into_iter().rev().map(read).collect();
    let refused = answers.iter().filter(|text| text.starts_with("http/1.0 503")).count();
    assert!(refused > 0, "{:?}", answers.iter().map(|a| a.lines().next()).collect::<Vec<_>>());
    let mut refusals = answers.iter().filter(|text| text.starts_with("http/1.0 503"));
    assert!(refusals.all(|text| text.contains("retry-after: 1")));
    // The slot is free again, although the client never read on or closed the connection.
    let text = wait_for("a slot", || {
        get(export.at, "/metrics", &[]).ok().filter(|answer| answer.status == 200)
    });
    let counted = value(&text.body, "domstat_scrapes_refused_total").unwrap();
    assert!(counted.parse::<usize>().unwrap() >= refused);
    let mut rest = Vec::new();
    let _ = idle.read_to_end(&mut rest);
    assert!(!rest.ends_with(b"0\r\n\r\n"), "what was cut off does not look whole");
}

#[test]
fn over_tls() {
    let dir = tempfile::tempdir().unwrap();
    let Some((cert, key)) = self_signed(dir.path()) else {
        return skip("openssl", "there is no openssl to make a certificate with");
    };
    let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let export = Export::start(dir.path(), &["--tls-cert", cert, "--tls-key", key]);
    let curl = |args: &[&str]| {
        let url = format!("https://{}/metrics", export.at);
        Command::new("curl").args(["-sS", "--max-time", "30"]).args(args).arg(url).output()
    };
    let Ok(trusted) = curl(&["--cacert", cert]) else {
        return skip("openssl", "there is no curl to ask with");
    };
    assert!(trusted.status.success(), "{}", stderr(&trusted));
    assert!(String::from_utf8_lossy(&trusted.stdout).contains("domstat_build_info"));
    assert!(!curl(&[]).unwrap().status.success(), "nobody vouches for the certificate");
    let mismatch = output(dir.path(), &["export", "--tls-cert", cert, "--tls-key", cert]);
    assert!(stderr(&mismatch).contains("expected a PEM file with a private key"));
}

#[test]
fn a_directory_that_cannot_be_read_is_named_and_may_appear_later() {
    let dir = tempfile::tempdir().unwrap();
    let later = dir.path().join("later");
    let export = Export::start(&later, &[]);
    assert!(export.said.contains("later: No such file"), "{}", export.said);
    let _domain = MadeUp::start(dir.path(), "web1", "web1");
    std::fs::create_dir(&later).unwrap();
    std::fs::rename(dir.path().join("web1.domstat"), later.join("web1.domstat")).unwrap();
    assert!(export.scrape().contains("domstat_up{domain=\"web1\""));
    std::fs::write(dir.path().join("file"), "").unwrap();
    let export = Export::start(&dir.path().join("file"), &[]);
    assert!(export.said.contains("Not a directory"), "{}", export.said);
}

#[test]
fn the_exporter_describes_itself() {
    let dir = tempfile::tempdir().unwrap();
    let _domain = MadeUp::start(dir.path(), "web1", "web1");
    let export = Export::start(dir.path(), &[]);
    let page = || get(export.at, "/", &[]).unwrap().body;
    assert!(page().contains(env!("CARGO_PKG_VERSION")) && page().contains("No scrape yet"));
    let text = export.scrape();
    assert!(page().contains("1 domain in the last scrape"), "{}", page());
    assert!(page().contains("/metrics") && page().contains("/-/healthy"));
    let missing = get(export.at, "/nothing", &[]).unwrap();
    assert_eq!(missing.status, 404);
    assert!(missing.body.contains("/metrics") && missing.body.contains("/-/healthy"));
    let number = |series: &str| seconds(&text, series);
    assert!(number("domstat_scrape_duration_seconds ") > 0.0);
    assert!(number("process_resident_memory_bytes ") > 1e6);
    assert!(number("process_open_fds ") > 2.0);
    assert!(number("process_start_time_seconds ") > 1.6e9, "{text}");
}

#[test]
fn an_address_in_use_is_said_and_a_signal_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut export = Export::start(dir.path(), &[]);
    assert_eq!(export.said, "");
    let listen = ["export", "--listen", &export.at.to_string()];
    let second = output(dir.path(), &listen);
    assert_eq!(second.status.code(), Some(4));
    assert!(stderr(&second).contains("cannot listen on"), "{}", stderr(&second));
    assert!(export.process.interrupt().success());
    let mut open = Background::start(
        domstat(dir.path()).args(["export", "--listen", "0.0.0.0:0"]).stderr(Stdio::piped()),
    );
    let mut said = [0; 40];
    open.0.stderr.take().unwrap().read_exact(&mut said).unwrap();
    assert!(String::from_utf8_lossy(&said).starts_with("domstat: 0.0.0.0"));
}
