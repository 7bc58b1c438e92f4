//! Going on with a region that an earlier process left.

use std::os::fd::AsFd;

use domstat_layout::RecordKind;

use crate::kept::Kept;
use crate::storage::os;
use crate::{CreateError, Created, Plan, RegionBuilder};

impl RegionBuilder {
    /// Creates the region in a memfd, as [`RegionBuilder::create_memfd`] does, and goes on with the
    /// one in `kept`, which an earlier process left: the same incarnation and generations, the
    /// same groups with what they last said. A group that its writer's death left in mid-update is
    /// mended. Sealed memory cannot be mapped writable again, so it is a copy; consumers of the
    /// first attach anew.
    ///
    /// Only a live region of the very same shape, schema and identity is gone on with; otherwise
    /// this is a new one. [`crate::Unpublished::continues`] says which. Writers are then to be put behind
    /// [`crate::Continued`] if the source's counters could be lower than before.
    ///
    /// # Errors
    /// [`CreateError`]; nothing is left behind.
    pub fn continue_memfd(self, kept: impl AsFd) -> Result<Created, CreateError> {
        let plan = self.plan()?;
        let schema = match plan.geometry().schema().size {
            0 => Vec::new(),
            _ => self.encode_schema(&plan),
        };
        let identity = self.identity;
        let mut created = self.create_memfd()?;
        let read =
            Kept::read(kept, &plan).map_err(os(|| "read the region that was kept".into()))?;
        let header = created.unpublished.header_bytes();
        if let Some(kept) = read.filter(|kept| kept.is_same(&plan, &header, &schema, &identity)) {
            created.restore(&kept, &plan);
        }
        Ok(created)
    }
}

impl Created {
    fn restore(&mut self, kept: &Kept, plan: &Plan) {
        let (g, groups) = (plan.geometry(), |kind| plan.revision.groups(kind));
        let of = |kind, index| {
            let base = g.array(kind).offset(index).unwrap_or(0);
            (kept.generation(base), kept.groups(base, kind, groups(kind)))
        };
        self.dom.restore(of(RecordKind::Dom, 0).1);
        for (index, vcpu) in (0..).zip(&mut self.vcpus) {
            let (generation, groups) = of(RecordKind::Vcpu, index);
            vcpu.restore(generation, groups);
        }
        for (index, blk) in (0..).zip(&mut self.blks) {
            let (generation, groups) = of(RecordKind::Blk, index);
            blk.restore(generation, groups);
        }
        for (index, net) in (0..).zip(&mut self.nets) {
            let (generation, groups) = of(RecordKind::Net, index);
            net.restore(generation, groups);
        }
        self.unpublished.go_on(kept.incarnation(), kept.notify());
    }
}
