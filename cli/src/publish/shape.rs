//! Shape of a region, from what a source says of its domain.

use super::labels::Labels;
use crate::error::Failure;
use domstat_layout::schema::{FieldSpec, GroupSpec};
use domstat_producer::{CreateError, Placement, RegionBuilder};
use domstat_sources::{ArchField, ArchGroup, Description};

/// Form of regions, beyond what their sources say.
#[derive(Clone)]
pub(crate) struct Form {
    /// How records are placed.
    pub(crate) placement: Placement,
    /// What the operator calls the domain by.
    pub(crate) labels: Labels,
}

impl From<Placement> for Form {
    /// Without labels.
    fn from(placement: Placement) -> Self {
        Self { placement, labels: Labels::default() }
    }
}

/// A region for what a source describes.
pub(super) fn builder_of(description: &Description, form: &Form) -> Result<RegionBuilder, Failure> {
    let Description {
        domid,
        uuid,
        name,
        created,
        nr_vcpus,
        nr_blks,
        nr_nets,
        clock,
        arch_dom,
        arch_vcpu,
        optional,
        labels,
        ..
    } = description;
    // Clients of a socket are handed the memory, and cannot open it for writing again.
    let mut builder = RegionBuilder::new(name)
        .mode(0o444)
        .vcpus(*nr_vcpus)
        .clock(*clock)
        .placement(form.placement);
    builder = builder.blks(*nr_blks).nets(*nr_nets);
    let (dom_fields, vcpu_fields) = (fields(arch_dom), fields(arch_vcpu));
    builder = builder
        .arch_dom(&specs(arch_dom, &dom_fields))
        .and_then(|b| b.arch_vcpu(&specs(arch_vcpu, &vcpu_fields)))
        .map_err(CreateError::from)?;
    builder = builder
        .vcpu_histograms(optional.vcpu_hist)
        .blk_histograms(optional.blk_hist)
        .blk_queues(optional.nr_blk_shares);
    let labels = form.labels.and(labels);
    if !labels.is_empty() {
        // They were found to fit when they were given.
        let labels = builder.labels(labels.iter().copied());
        builder = labels.map_err(|error| Failure::Labels { why: error.to_string() })?;
    }
    if let Some(domid) = *domid {
        builder = builder.domid(domid);
    }
    if let Some(uuid) = *uuid {
        builder = builder.uuid(uuid);
    }
    if let Some(created) = *created {
        builder = builder.created(created);
    }
    Ok(builder)
}

/// The fields of each group that a source describes, as a producer takes them.
fn fields<'a>(groups: &'a [ArchGroup]) -> Vec<Vec<FieldSpec<'a>>> {
    let of = |group: &'a ArchGroup| {
        let fields = group.fields.iter();
        fields.map(|ArchField { name, shape }| FieldSpec { name, shape: *shape }).collect()
    };
    groups.iter().map(of).collect()
}

fn specs<'a>(groups: &'a [ArchGroup], fields: &'a [Vec<FieldSpec<'a>>]) -> Vec<GroupSpec<'a>> {
    let spec =
        |(group, fields): (&'a ArchGroup, &'a Vec<_>)| GroupSpec { name: &group.name, fields };
    groups.iter().zip(fields).map(spec).collect()
}
