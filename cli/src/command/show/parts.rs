//! What other programs publish of the domain that is shown.

use std::collections::BTreeMap;

use domstat_consumer::fleet::parts::Relation;
use domstat_consumer::{Attachment, Snapshot};
use domstat_layout::latest::{BlkIdentity, NetIdentity};
use ratatui::text::Line;
use serde_json::{Value, json};

use super::{STALE, text};
use crate::error::Failure;
use crate::locate::Places;
use crate::output::{self, Seen, identity, printable};
use crate::rows::{Distributions, Interval};
use crate::view::View;

/// A region of another program that is named after the domain.
pub(super) struct Part {
    name: String,
    /// What it says, or why nothing of it is shown.
    found: Result<(Attachment, Snapshot, Seen), String>,
    /// Devices that the domain or an earlier part has already, and which.
    again: Vec<(String, String)>,
}

/// What other programs publish of a domain, in order of their names: not regions that are domains of their own.
pub(super) fn parts(
    places: Places<'_>,
    domain: &str,
    whole: &Attachment,
    snapshot: &Snapshot,
) -> Result<Vec<Part>, Failure> {
    let mut known: BTreeMap<String, String> =
        devices(snapshot).map(|device| (device, domain.to_owned())).collect();
    let mut parts = Vec::new();
    for (name, path) in places.parts(domain)? {
        let found = match Attachment::open(&path) {
            Ok(part) => match Relation::of(&part, whole) {
                Relation::OtherDomain => continue,
                Relation::Part => look(part),
                refused => Err(refused.to_string()),
            },
            Err(error) => Err(error.to_string()),
        };
        let mut again = Vec::new();
        for device in found.iter().flat_map(|(_, snapshot, _)| devices(snapshot)) {
            match known.get(&device) {
                Some(other) => again.push((device, other.clone())),
                None => drop(known.insert(device, name.clone())),
            }
        }
        parts.push(Part { name, found, again });
    }
    Ok(parts)
}

fn look(part: Attachment) -> Result<(Attachment, Snapshot, Seen), String> {
    let mut snapshot = Snapshot::new();
    part.settle();
    let liveness = part.snapshot(&mut snapshot);
    let seen = Seen { liveness, state: part.region().status().state };
    part.region().intact().map_err(|lost| lost.to_string())?;
    Ok((part, snapshot, seen))
}

/// What the devices are called.
fn devices(snapshot: &Snapshot) -> impl Iterator<Item = String> + use<'_> {
    let disks = (0..snapshot.nr_blks()).filter_map(|index| {
        let identity = snapshot.blk(index)?.blk_group::<BlkIdentity>().ok()?.active()?;
        Some(format!("disk {}", identity.name.as_str()?))
    });
    let interfaces = (0..snapshot.nr_nets()).filter_map(|index| {
        let identity = snapshot.net(index)?.net_group::<NetIdentity>().ok()?.active()?;
        Some(format!("interface {}", identity.name.as_str()?))
    });
    disks.chain(interfaces)
}

impl Part {
    pub(super) fn lines(&self, view: View) -> Vec<Line<'static>> {
        let Self { name, found, again } = self;
        let (part, snapshot, seen) = match found {
            Ok(found) => found,
            Err(error) => return vec![Line::raw(printable(&format!("{name}: {error}")))],
        };
        let region = part.region();
        let distributions = Distributions::of(region);
        let interval = Interval::new(snapshot, None, &seen.liveness, STALE)
            .with_distributions(&distributions, &distributions);
        let mut lines = text::lines(region, interval, *seen, None, view);
        let own = identity(snapshot);
        if own.as_ref().and_then(|own| own.name.as_str()) != Some(name) {
            lines.insert(0, Line::raw(printable(&format!("{name}:"))));
        }
        for (device, other) in again {
            let text =
                format!("{device}: {other} has one of this name, too; they are not added up");
            lines.push(Line::raw(printable(&text)));
        }
        lines
    }

    pub(super) fn json(&self) -> Value {
        let mut value = match &self.found {
            Ok((part, snapshot, seen)) => output::json::sample(part.region(), snapshot, *seen),
            Err(error) => json!({ "error": error }),
        };
        if let Some(map) = value.as_object_mut() {
            map.insert("entry".to_owned(), json!(self.name));
            if !self.again.is_empty() {
                let again = self.again.iter();
                let again: Value =
                    again.map(|(device, of)| json!({ "device": device, "of": of })).collect();
                map.insert("again".to_owned(), again);
            }
        }
        value
    }
}
