//! The exporter scraped by Prometheus itself, through what happens to domains; the rules and the
//! dashboard of `deploy/` evaluated there.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

mod common;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::http::{Export, free_port, get};
use common::made_up::{self, MadeUp, UUID_TEXT};
use common::{Background, domstat, output, show, skip, stdout, wait_for};
use serde_json::Value;

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(path)
}

/// Debian's Prometheus, scraping one exporter all the time.
struct Prometheus {
    _process: Background,
    at: SocketAddr,
}

impl Prometheus {
    /// `None` if it is not installed.
    fn start(home: &Path, exporter: SocketAddr) -> Option<Self> {
        // As shipped, except for the delay of alerts and the windows of rates.
        let rules = std::fs::read_to_string(deploy("prometheus/rules.yml")).unwrap();
        let rules = rules.lines().filter(|line| !line.trim_start().starts_with("for:"));
        let rules = rules.collect::<Vec<_>>().join("\n").replace("[5m]", "[10s]");
        std::fs::write(home.join("rules.yml"), rules).unwrap();
        let scrape = std::fs::read_to_string(deploy("prometheus/scrape.yml")).unwrap();
        let scrape = scrape
            .replace("scrape_interval: 15s", "scrape_interval: 500ms\n    scrape_timeout: 500ms")
            .replace("127.0.0.1:9956", &exporter.to_string());
        let config = format!("global:\n  evaluation_interval: 500ms\n{scrape}");
        std::fs::write(home.join("prometheus.yml"), config).unwrap();
        let at = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", home.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", home.join("data").display()))
            .arg(format!("--web.listen-address={at}"))
            .args(["--log.level=warn", "--query.lookback-delta=30s"])
            .stdin(Stdio::null());
        let process = Background(command.spawn().ok()?);
        wait_for("Prometheus", || {
            get(at, "/-/ready", &[]).ok().filter(|answer| answer.status == 200)
        });
        Some(Self { _process: process, at })
    }

    fn api(&self, path: &str) -> Value {
        let answer = get(self.at, &format!("/api/v1/{path}"), &[]).unwrap();
        let json: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(json["status"], "success", "{path}: {json:#}");
        json["data"].clone()
    }

    /// The series that a query gives now.
    fn query(&self, query: &str) -> Vec<Value> {
        let encoded: String = query.bytes().map(|b| format!("%{b:02X}")).collect();
        self.api(&format!("query?query={encoded}"))["result"].as_array().unwrap().clone()
    }

    /// The one number that a query gives now, if it gives one.
    fn number(&self, query: &str) -> Option<f64> {
        match self.query(query).as_slice() {
            [one] => one["value"][1].as_str().unwrap().parse().ok(),
            _ => None,
        }
    }

    fn wait(&self, query: &str, wanted: impl Fn(f64) -> bool) -> f64 {
        wait_for(query, || self.number(query).filter(|n| wanted(*n)))
    }

    fn wait_absent(&self, query: &str) {
        wait_for(query, || self.query(query).is_empty().then_some(()));
    }

    /// What Prometheus says of the scrapes themselves, and of those that gave one series twice.
    fn nothing_wrong(&self) {
        let targets = self.api("targets");
        assert_eq!(targets["activeTargets"][0]["health"], "up", "{targets:#}");
        assert_eq!(targets["activeTargets"][0]["lastError"], "", "{targets:#}");
        assert_eq!(self.number("min_over_time(up{job=\"domstat\"}[1m])"), Some(1.0));
        let metrics = get(self.at, "/metrics", &[]).unwrap().body;
        let twice = "prometheus_target_scrapes_sample_duplicate_timestamp_total 0";
        let disordered = "prometheus_target_scrapes_sample_out_of_order_total 0";
        for line in [twice, disordered] {
            assert!(metrics.lines().any(|l| l == line), "not: {line}");
        }
    }
}

fn process_domain(dir: &Path, pid: u32) -> Background {
    let pid = pid.to_string();
    let args = ["run", "process", "--pid", &pid, "--name", "p1", "--interval", "50"];
    Background::start(domstat(dir).args(args).stderr(Stdio::null()))
}

#[test]
fn prometheus_sees_what_happens() {
    let dir = tempfile::tempdir().unwrap();
    let home = tempfile::tempdir().unwrap();
    let export = Export::start(dir.path(), &["--include", "*"]);
    let Some(prometheus) = Prometheus::start(home.path(), export.at) else {
        return skip("prometheus", "there is no prometheus: apt-get install prometheus");
    };
    let mut child = Background::start(Command::new("sh").args(["-c", "while :; do :; done"]));
    let mut producer = process_domain(dir.path(), child.0.id());
    let web1 = MadeUp::start(dir.path(), "web1", "web1");
    show(dir.path(), "p1");

    // Numbers arrive and move.
    prometheus.wait("domstat_up{domain=\"p1\"}", |up| up == 1.0);
    let uuid = format!("domstat_up{{domain=\"web1\",uuid=\"{UUID_TEXT}\"}}");
    prometheus.wait(&uuid, |up| up == 1.0);
    let spin = "sum(rate(domstat_vcpu_state_seconds_total{domain=\"p1\",state=~\"runn.*\"}[10s]))";
    prometheus.wait(spin, |cpus| cpus > 0.5);

    dashboard(&prometheus);
    quantiles(&prometheus);
    records(&prometheus);

    // A producer is killed: no value stays, an alert fires; it comes back, and its counters say
    // that they started over.
    let created =
        "max(domstat_vcpu_state_seconds_created{domain=\"p1\",vcpu=\"0\",state=\"running\"})";
    let began = prometheus.wait(created, |time| time > 1e9);
    producer.0.kill().unwrap();
    producer.0.wait().unwrap();
    prometheus.wait("domstat_up{domain=\"p1\"}", |up| up == 0.0);
    prometheus.wait_absent("domstat_domain_memory_rss_bytes{domain=\"p1\"}");
    prometheus.wait_absent("domstat_vcpu_state_seconds_total{domain=\"p1\"}");
    wait_for("an alert", || {
        let alerts = prometheus.api("alerts");
        let alerts = alerts["alerts"].as_array()?;
        alerts.iter().find(|alert| {
            alert["labels"]["alertname"] == "DomstatDomainDown"
                && alert["labels"]["domain"] == "p1"
                && alert["state"] == "firing"
        })?;
        Some(())
    });
    let mut producer = process_domain(dir.path(), child.0.id());
    prometheus.wait("domstat_up{domain=\"p1\"}", |up| up == 1.0);
    prometheus.wait(created, |time| time > began);
    prometheus.wait_absent("ALERTS{alertname=\"DomstatDomainDown\",domain=\"p1\"}");
    // The series of the killed producer have a rate for a while: it is not counted twice.
    let usage = "domstat:domain_cpu_usage:rate5m{domain=\"p1\"}";
    wait_for("usage", || (!prometheus.query(usage).is_empty()).then_some(()));
    assert_eq!(prometheus.query(usage).len(), 1);

    // A domain ends: none of its series is left.
    child.0.kill().unwrap();
    child.0.wait().unwrap();
    assert!(producer.0.wait().unwrap().success());
    prometheus.wait_absent("{domain=\"p1\",__name__=~\"domstat_.*\"}");

    // A domain moves to another producer, and for a while there are two of it.
    let series = "count by (uuid) (domstat_domain_memory_rss_bytes{domain=\"web1\"})";
    let created = "domstat_domain_memory_page_faults_created{domain=\"web1\",type=\"major\"}";
    let began = prometheus.wait(created, |time| time > 1e9);
    let moved = MadeUp::start(dir.path(), "web1-incoming", "web1");
    let duplicates = "domstat_read_failures_total{reason=\"duplicate\"}";
    prometheus.wait(duplicates, |n| n > 0.0);
    assert_eq!(prometheus.number(series), Some(1.0));
    drop(web1);
    prometheus.wait(created, |time| time > began);
    assert_eq!(prometheus.number(series), Some(1.0));
    let faults = "domstat_domain_memory_page_faults_total{domain=\"web1\",type=\"major\"}";
    let then = prometheus.wait(faults, |_| true);
    prometheus.wait(faults, |now| now > then);
    drop(moved);
    prometheus.wait_absent("{domain=\"web1\",__name__=~\"domstat_.*\"}");
    prometheus.nothing_wrong();
}

/// Quantiles lie in the buckets of the values: 3 of 4 reads take 100 us, all writes 3 ms.
fn quantiles(prometheus: &Prometheus) {
    let quantile = |share: &str, what: &str| {
        let rate = format!("rate(domstat_block_{what}_latency_seconds_bucket[10s])");
        format!("histogram_quantile({share}, sum by (domain, le) ({rate}))")
    };
    // Exported bounds around 100 us, 1 ms and 3 ms: 65.535 and 262.143 us, 1.048575 and 4.194303 ms.
    prometheus.wait(&quantile("0.5", "read"), |s| (0.000_065_535..=0.000_262_143).contains(&s));
    prometheus.wait(&quantile("0.9", "read"), |s| (0.000_262_143..=0.001_048_575).contains(&s));
    prometheus.wait(&quantile("0.5", "write"), |s| (0.001_048_575..=0.004_194_303).contains(&s));
    let labels = "domstat_domain_labels{domain=\"web1\",label_tenant=\"acme\",label_zone_a=\"1\"}";
    prometheus.wait(labels, |one| one == 1.0);
}

/// Every query of the dashboard gives something.
fn dashboard(prometheus: &Prometheus) {
    let text = std::fs::read_to_string(deploy("grafana/domstat.json")).unwrap();
    let json: Value = serde_json::from_str(&text).unwrap();
    let mut queries = 0;
    for panel in json["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            let query = target["expr"].as_str().unwrap();
            let query = query
                .replace("$__rate_interval", "10s")
                .replace("$__range", "10s")
                .replace("$domain", "web1")
                .replace("$instance", ".*");
            assert!(!query.contains('$'), "{query}");
            wait_for(&query, || {
                let result = prometheus.query(&query);
                let value = result.first()?["value"][1].as_str()?.parse::<f64>().ok()?;
                value.is_finite().then_some(())
            });
            queries += 1;
        }
    }
    assert!(queries > 20, "{queries}");
}

#[test]
fn domains_of_many_hosts_are_distinguished() {
    let text = std::fs::read_to_string(deploy("grafana/domstat.json")).unwrap();
    let json: Value = serde_json::from_str(&text).unwrap();
    let panels = json["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let mut queries: Vec<String> =
        targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect();
    let rules = std::fs::read_to_string(deploy("prometheus/rules.yml")).unwrap();
    queries.extend(rules.lines().map(str::to_owned));
    for query in &queries {
        for by in query.split("by (").skip(1).chain(query.split("on (").skip(1)) {
            let labels = by.split(')').next().unwrap();
            let names_domain = labels.contains("domain");
            assert!(!names_domain || labels.contains("instance"), "{query}");
        }
        // As an outermost function in a graph it takes others at each step.
        assert!(!query.starts_with("topk"), "{query}");
    }
    let summaries = rules.lines().filter(|line| line.trim_start().starts_with("summary:"));
    for summary in summaries {
        assert!(summary.contains("{{ $labels.instance }}: "), "{summary}");
    }
    // Panels show the hosts that are selected.
    for target in panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap()) {
        let query = target["expr"].as_str().unwrap();
        assert!(query.contains("instance=~\"$instance\""), "{query}");
    }
    let table = panels.iter().find(|panel| panel["type"] == "table").unwrap();
    assert!(table.to_string().contains("var-domain=${__value.raw}"), "a row leads to its domain");
}

/// Every recording rule gives something, and no rule fails.
fn records(prometheus: &Prometheus) {
    let rules = || {
        let groups = prometheus.api("rules");
        let groups = groups["groups"].as_array().unwrap().clone();
        groups.iter().flat_map(|g| g["rules"].as_array().unwrap().clone()).collect::<Vec<_>>()
    };
    for rule in rules() {
        let name = rule["name"].as_str().unwrap().to_owned();
        if rule["type"] == "recording" {
            wait_for(&name, || (!prometheus.query(&name).is_empty()).then_some(()));
        }
    }
    wait_for("all rules", || rules().iter().all(|r| r["health"] == "ok").then_some(()));
    prometheus.wait("ALERTS{alertname=\"DomstatWriteThreshold\",domain=\"web1\"}", |n| n == 1.0);
}

#[test]
fn promtool_has_nothing_to_say() {
    let dir = tempfile::tempdir().unwrap();
    let _domain = MadeUp::start(dir.path(), "web1", "web1");
    let export = Export::start(dir.path(), &["--include", "*"]);
    let promtool = |args: &[&str], input: Stdio| {
        Command::new("promtool").args(args).stdin(input).output().ok()
    };
    let rules = deploy("prometheus/rules.yml");
    let Some(rules) = promtool(&["check", "rules", rules.to_str().unwrap()], Stdio::null()) else {
        return skip("prometheus", "there is no promtool: apt-get install prometheus");
    };
    assert!(rules.status.success(), "{}", stdout(&rules));
    let scrape = deploy("prometheus/scrape.yml");
    let config = promtool(&["check", "config", scrape.to_str().unwrap()], Stdio::null()).unwrap();
    assert!(config.status.success(), "{}", stdout(&config));

    let path = dir.path().join("metrics");
    let check = |text: &str| {
        std::fs::write(&path, text).unwrap();
        let file = std::fs::File::open(&path).unwrap();
        promtool(&["check", "metrics"], file.into()).unwrap()
    };
    let text = get(export.at, "/metrics", &[]).unwrap().body;
    let good = check(&text);
    assert!(good.status.success() && good.stdout.is_empty(), "{}", stdout(&good));
    assert!(!check(&text.replace("_total", "")).status.success(), "the check can fail");
    assert!(output(dir.path(), &["ls"]).status.success());
}

/// Copies of the rules and of their tests, which promtool runs after a change of the rules.
fn test_rules(dir: &Path, change: impl Fn(String) -> String) -> Option<std::process::Output> {
    let rules = std::fs::read_to_string(deploy("prometheus/rules.yml")).unwrap();
    std::fs::write(dir.join("rules.yml"), change(rules)).unwrap();
    std::fs::copy(deploy("prometheus/tests.yml"), dir.join("tests.yml")).unwrap();
    Command::new("promtool").args(["test", "rules", "tests.yml"]).current_dir(dir).output().ok()
}

#[test]
fn alerts_fire_on_their_cases_and_on_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let Some(tested) = test_rules(dir.path(), |rules| rules) else {
        return skip("prometheus", "there is no promtool: apt-get install prometheus");
    };
    assert!(tested.status.success(), "{}{}", stdout(&tested), common::stderr(&tested));
    let rules = std::fs::read_to_string(deploy("prometheus/rules.yml")).unwrap();
    let tests = std::fs::read_to_string(deploy("prometheus/tests.yml")).unwrap();
    let alerts: Vec<&str> =
        rules.split("- alert: ").skip(1).map(|rule| rule.lines().next().unwrap()).collect();
    assert!(alerts.len() >= 14, "{alerts:?}");
    // The tests notice alerts that always fire, and alerts that never do.
    let changed = |replacements: [[&str; 2]; 2]| {
        let tested = test_rules(dir.path(), |rules| {
            let (records, alerts) = rules.split_once("- name: domstat-alerts").unwrap();
            let change = |text: String, [from, to]: &[&str; 2]| text.replace(from, to);
            let alerts = replacements.iter().fold(alerts.to_owned(), change);
            format!("{records}- name: domstat-alerts{alerts}")
        });
        let tested = tested.unwrap();
        stdout(&tested) + &common::stderr(&tested)
    };
    let always = changed([[" > ", " < 1e9 + "], [" == ", " != "]]);
    let never = changed([[" > ", " > 1e9 + "], [" == ", " == 9 + "]]);
    for alert in alerts {
        // Among its tests are one where it fires and one where it is silent.
        assert!(tests.contains(&format!("- alertname: {alert}\n")), "{alert} never fires");
        assert!(tests.contains(&format!("{{ alertname: {alert}, ")), "{alert} is never silent");
        let failure = format!("alertname: {alert},");
        assert!(always.contains(&failure), "{alert} may always fire: {always}");
        assert!(never.contains(&failure), "{alert} may never fire: {never}");
    }
}

/// The name of a series and the names of its labels, without those that Prometheus adds.
fn shape(series: &str) -> (String, Vec<String>) {
    let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
    let labels = labels.rsplit_once('}').map_or(labels, |(labels, _)| labels);
    let keys = labels.split("\",").filter_map(|label| Some(label.split_once('=')?.0.to_owned()));
    let mut keys: Vec<String> = keys.filter(|key| key != "instance").collect();
    keys.sort();
    (name.to_owned(), keys)
}

#[test]
fn tests_of_rules_are_about_series_that_are_exported() {
    let dir = tempfile::tempdir().unwrap();
    let _domain = MadeUp::start(dir.path(), "web1", "web1");
    let _full = MadeUp::in_status(dir.path(), "web2", "web2", made_up::IO_ERROR);
    let _hung = MadeUp::in_status(dir.path(), "web3", "web3", made_up::HUNG);
    let export = Export::start(dir.path(), &["--include", "*"]);
    let scraped = get(export.at, "/metrics", &[]).unwrap().body;
    let exported: std::collections::BTreeSet<_> = scraped
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| shape(line.rsplit_once(' ').unwrap().0))
        .collect();
    let tests = std::fs::read_to_string(deploy("prometheus/tests.yml")).unwrap();
    let series: Vec<_> = tests.split("series: '").skip(1).collect();
    assert!(series.len() > 30, "{}", series.len());
    for series in series {
        let shape = shape(series.split('\'').next().unwrap());
        let is_own = shape.0 == "up";
        assert!(is_own || exported.contains(&shape), "not exported: {shape:?}");
    }
}
