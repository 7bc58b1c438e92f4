//! Report of a run: tables for people, ratios by name for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::harness::Spread;

/// Everything that one run of the bench found.
#[derive(Default)]
pub struct Report {
    sections: Vec<Section>,
    ratios: BTreeMap<&'static str, Spread>,
    /// Cost against size, of 64 to 512 bytes: name, points.
    pub by_size: Vec<(String, Vec<(f64, f64)>)>,
    /// Cost per vCPU against the number of vCPUs.
    pub by_vcpus: Vec<(String, Vec<(f64, f64)>)>,
}

struct Section {
    title: String,
    about: &'static str,
    rows: Vec<Vec<String>>,
}

/// What a ratio should be.
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

/// What we want of a ratio, by its name.
const TARGETS: &[(&str, &str, Bound)] = {
    use Bound::{AtLeast, AtMost};
    &[
        ("read 128 B, 16-byte form, x memcpy", "read_128_baseline_over_memcpy", AtMost(1.4)),
        ("read 128 B, widest form, x memcpy", "read_128_over_memcpy", AtMost(1.15)),
        ("write 128 B, x memcpy", "write_128_over_memcpy", AtMost(1.7)),
        ("read 128 B, portable form, x memcpy", "read_128_portable_over_memcpy", AtMost(2.0)),
        ("write 128 B, portable form, x memcpy", "write_128_portable_over_memcpy", AtMost(2.7)),
        ("update of one field, ns", "one_field_update_ns", AtMost(2.0)),
        ("`vcpu.read`, x the group read beneath", "vcpu_read_over_group_read", AtMost(1.5)),
        (
            "`vcpu.write` with its twin, x two group writes",
            "vcpu_write_over_two_group_writes",
            AtMost(1.3),
        ),
        (
            "`record` of a value, x the update of one field",
            "record_over_one_field_update",
            AtMost(3.0),
        ),
        ("a disk's bookkeeping for a whole request, ns", "device_request_ns", AtMost(40.0)),
        (
            "reads/s next to a writer at 1 MHz, x torn memcpy",
            "reads_beside_1mhz_writer_over_memcpy",
            AtLeast(0.9),
        ),
        (
            "reads/s next to a writer at 1 MHz, x best peer",
            "reads_beside_1mhz_writer_over_best_peer",
            AtLeast(1.0),
        ),
        ("twins, writer flat out: read p99.9, us", "twins_full_speed_p999_us", AtMost(5.0)),
        (
            "twins, writer flat out: worst read less the machine's noise, us",
            "twins_full_speed_worst_over_noise_us",
            AtMost(20.0),
        ),
        (
            "snapshot of 4,096 vCPUs packed, bandwidth x memcpy",
            "snapshot_4096_packed_bandwidth_over_memcpy",
            AtLeast(0.9),
        ),
        (
            "snapshot of 4,096 vCPUs page-granular, bandwidth x memcpy",
            "snapshot_4096_page_bandwidth_over_memcpy",
            AtLeast(0.9),
        ),
        (
            "snapshot of 4,096 vCPUs with distributions, x one of revision 4",
            "snapshot_4096_over_revision_4",
            AtMost(1.1),
        ),
        (
            "a vCPU's numbers: pread of a kept KVM stats fd over a read",
            "kvm_stats_fd_pread_over_read",
            AtLeast(40.0),
        ),
        ("attach 10,000 domains, ms", "attach_10000_domains_ms", AtMost(200.0)),
        ("pass over 80,000 vCPUs, x memcpy", "pass_80000_vcpus_over_memcpy", AtMost(2.0)),
        (
            "growth of the cost per vCPU from 4,096 to 65,536, packed, x memcpy's",
            "snapshot_growth_to_65536_over_memcpy",
            AtMost(1.5),
        ),
    ]
};

impl Report {
    /// Begins a table; the first row holds the column heads.
    pub fn section(&mut self, title: impl Into<String>, about: &'static str, heads: &[&str]) {
        let rows = vec![heads.iter().map(|&head| head.to_owned()).collect()];
        self.sections.push(Section { title: title.into(), about, rows });
    }

    /// Adds a row to the table begun last.
    pub fn row(&mut self, cells: Vec<String>) {
        if let Some(section) = self.sections.last_mut() {
            section.rows.push(cells);
        }
    }

    /// Notes a figure by name.
    pub fn ratio(&mut self, name: &'static str, spread: Spread) {
        self.ratios.insert(name, spread);
    }

    /// The named figures as JSON: each as a number, the median; then the smallest and the largest
    /// of each.
    pub fn json(&self) -> serde_json::Value {
        let figures = |of: fn(&Spread) -> f64| -> serde_json::Map<String, serde_json::Value> {
            self.ratios.iter().map(|(name, s)| ((*name).to_owned(), of(s).into())).collect()
        };
        let mut all = figures(|s| s.median);
        all.insert("min".to_owned(), figures(|s| s.min).into());
        all.insert("max".to_owned(), figures(|s| s.max).into());
        all.into()
    }

    /// The tables as Markdown, targets first.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        let mut targets =
            vec![vec!["target".into(), "wanted".into(), "measured".into(), "".into()]];
        targets.extend(TARGETS.iter().map(|target| self.target(target)));
        write_table(&mut text, &targets);
        for section in &self.sections {
            let _ = write!(text, "\n{}", section.markdown(""));
        }
        text
    }

    /// An earlier page with this report's tables and targets in the place of its own.
    pub fn renewed(&self, page: &str) -> Result<String, String> {
        let mut page = page.to_owned();
        for target in TARGETS.iter().filter(|target| self.ratios.contains_key(target.1)) {
            let start = format!("| {} |", target.0);
            let old = page.lines().find(|line| line.starts_with(&start));
            let old = old.ok_or(format!("the page has no target `{}`", target.0))?.to_owned();
            let mut row = self.target(target);
            if let Some(measured) = row.get_mut(MEASURED) {
                measured.push_str(", `--calls`");
            }
            page = page.replace(&old, &line(&row));
        }
        for section in &self.sections {
            let missing = format!("the page has no section `{}`", section.title);
            let start = page.find(&format!("### {}\n", section.title)).ok_or(missing)?;
            let rest = page[start + 1..].find("\n### ").map_or(page.len(), |at| start + 2 + at);
            let end = if rest < page.len() { "\n" } else { "" };
            page.replace_range(start..rest, &(section.markdown(BY_ITSELF) + end));
        }
        Ok(page)
    }

    /// The row of a target.
    fn target(&self, (what, name, bound): &(&str, &str, Bound)) -> Vec<String> {
        let (wanted, reached) = match bound {
            Bound::AtMost(bound) => (format!("<= {bound}"), self.holds(name, |m| m <= *bound)),
            Bound::AtLeast(bound) => (format!(">= {bound}"), self.holds(name, |m| m >= *bound)),
        };
        let measured = self.ratios.get(name).map_or("not measured here".into(), |s| spread(*s));
        vec![(*what).into(), wanted, measured, reached.into()]
    }

    fn holds(&self, name: &str, holds: impl Fn(f64) -> bool) -> &'static str {
        match self.ratios.get(name) {
            Some(spread) if holds(spread.median) => "reached",
            Some(_) => "**missed**",
            None => "",
        }
    }
}

/// The column of a target's figure.
const MEASURED: usize = 2;

/// What a table says that is newer than its page.
const BY_ITSELF: &str = " Measured in a run of its own, with `--calls`.";

impl Section {
    fn markdown(&self, remark: &str) -> String {
        let mut text = format!("### {}\n\n{}{remark}\n\n", self.title, self.about);
        write_table(&mut text, &self.rows);
        text
    }
}

fn write_table(text: &mut String, rows: &[Vec<String>]) {
    for (i, row) in rows.iter().enumerate() {
        let _ = writeln!(text, "{}", line(row));
        if i == 0 {
            let _ = writeln!(text, "|{}", "---|".repeat(row.len()));
        }
    }
}

fn line(row: &[String]) -> String {
    format!("| {} |", row.join(" | "))
}

/// `1.23 (1.20..1.31)`.
pub fn spread(s: Spread) -> String {
    format!("{} ({}..{})", number(s.median), number(s.min), number(s.max))
}

/// Three digits that count.
pub fn number(x: f64) -> String {
    match x.abs() {
        a if a >= 100.0 => format!("{x:.0}"),
        a if a >= 10.0 => format!("{x:.1}"),
        _ => format!("{x:.2}"),
    }
}
