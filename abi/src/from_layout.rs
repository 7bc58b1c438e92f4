//! Layouts from the descriptor table and from the schemas of regions.

use domstat_layout::descriptor::Kind;
use domstat_layout::schema::{FieldShape, SchemaField};
use domstat_layout::{GroupDesc, RecordKind, Revision, Schema, latest};

use crate::c_parse::constant_text;
use crate::constants::{header_values, headers, kinds, magics, sentinels};
use crate::{Abi, Field, Group, Record};

impl Abi {
    /// A revision that this build knows.
    #[must_use]
    pub fn of_revision(number: u32) -> Option<Self> {
        let revision = Revision::of(number)?;
        let known = RecordKind::ALL.into_iter().filter(|kind| !revision.groups(*kind).is_empty());
        let record = |kind: RecordKind| Record {
            name: kind.name().to_owned(),
            header_len: kind.header_len(),
            size: revision.size(kind),
            groups: revision.groups(kind).iter().map(|g| group(g)).collect(),
        };
        let constants = sentinels().into_iter().chain(magics(revision)).chain(kinds(revision));
        let constants = constants.chain(header_values());
        Some(Self {
            revision: number,
            constants: constants.map(|c| (c.name, constant_text(c.value))).collect(),
            headers: headers(number),
            records: known.map(record).collect(),
        })
    }

    /// The layout that a region's schema describes; `revision` is that of the region's header. A
    /// schema does not describe headers and constants: these are the ones of the latest revision up
    /// to this one that the build knows.
    #[must_use]
    pub fn of_schema(schema: &Schema<'_>, revision: u32) -> Self {
        let groups = |kind| {
            let groups = schema.groups().filter(move |g| g.record == kind);
            groups.map(|g| Group {
                name: g.name.to_owned(),
                bit: g.bit,
                offset: g.offset,
                size: g.size,
                since: g.since,
                twin_of: g.twin_of,
                fields: schema.fields(&g).map(|f| described(&f)).collect(),
            })
        };
        let record = |r: domstat_layout::schema::SchemaRecord<'_>| Record {
            name: r.name.to_owned(),
            header_len: r.header,
            size: r.size,
            groups: groups(r.kind).collect(),
        };
        let known = Self::of_revision(revision.min(latest::REVISION)).unwrap_or_default();
        Self { revision, records: schema.records().map(record).collect(), ..known }
    }
}

fn described(f: &SchemaField<'_>) -> Field {
    Field {
        name: f.name.to_owned(),
        offset: f.offset,
        width: f.width,
        kind: kind_name(&f.shape),
        unit: f.shape.scaled().to_string(),
        states: f.states().map(str::to_owned).collect(),
    }
}

fn kind_name(shape: &FieldShape) -> String {
    shape.kind.name().map_or_else(|| format!("kind {}", shape.kind.0), str::to_owned)
}

fn group(g: &GroupDesc) -> Group {
    let field = |f: &domstat_layout::descriptor::FieldDesc| {
        let shape = FieldShape::of(f);
        Field {
            name: f.name.to_owned(),
            offset: f.offset,
            width: f.width,
            kind: kind_name(&shape),
            unit: shape.scaled().to_string(),
            states: match f.kind {
                Kind::State(names) => names.iter().map(|name| (*name).to_owned()).collect(),
                _ => Vec::new(),
            },
        }
    };
    Group {
        name: g.name.to_owned(),
        bit: g.bit,
        offset: g.offset,
        size: g.size,
        since: g.since,
        twin_of: g.twin_of.map(|first| first.bit),
        fields: g.fields.iter().map(field).collect(),
    }
}
