//! Publisher of domains that an observer finds.

use std::path::Path;
use std::sync::Arc;

use domstat_producer::{DomWriter, NetWriter, Unpublished, VcpuWriter};
use domstat_sources::contract::{
    ArmedThresholds, Description, Event, Publisher, Sinks, SourceError,
};

use super::lineage::lineage;
use super::place::{Place, Visible};
use super::shape::{Form, builder_of};
use super::sinks::{BlkRecords, VcpuRecords};
use crate::control::{ArmedFile, Hub};
use crate::error::Failure;
use crate::output::message::message;
use crate::output::printable;

/// Publishes what an observer finds, and sends its events to a control socket.
pub(crate) struct Regions {
    pub(crate) place: Place,
    pub(crate) form: Form,
    pub(crate) hub: Arc<Hub>,
    pub(crate) armed: Arc<ArmedFile>,
}

impl Publisher for Regions {
    type Dom = DomWriter;
    type Vcpu = VcpuRecords<VcpuWriter>;
    type Blk = BlkRecords;
    type Net = NetWriter;
    type Unpublished = Unpublished;
    type Region = Visible;

    fn create(&mut self, description: &Description) -> Result<Sinks<Self>, SourceError> {
        let builder = builder_of(description, &self.form);
        let new = builder.and_then(|builder| self.place.create(builder));
        let mut new = new.map_err(|failure| failed(&description.name, failure))?;
        let lineage = lineage(description, new.unpublished.incarnation(), None);
        if let Some(now) = domstat_producer::now(description.clock) {
            new.dom.write(&lineage, now);
        }
        Ok(Sinks {
            dom: new.dom,
            vcpus: VcpuRecords::zip(new.vcpus, new.vcpu_hists),
            blks: BlkRecords::zip(new.blks, new.blk_hists),
            nets: new.nets,
            unpublished: new.unpublished,
        })
    }

    fn publish(&mut self, name: &str, new: Unpublished) -> Result<Visible, SourceError> {
        let visible = self.place.publish(new, name).map_err(|failure| failed(name, failure))?;
        message(&format!("publishing {} at {}", printable(name), visible.path().display()));
        Ok(visible)
    }

    fn notify(&self, visible: &Visible) {
        visible.notify();
    }

    fn event(&mut self, domain: &str, event: &Event) {
        self.hub.send(domain, event);
    }

    fn recall(&mut self, address: &Path) -> ArmedThresholds {
        self.armed.recall(address)
    }

    fn remember(&mut self, address: &Path, armed: &ArmedThresholds) {
        self.armed.remember(address, armed);
    }

    fn note(&mut self, text: &str) {
        message(&printable(text));
    }
}

fn failed(name: &str, failure: Failure) -> SourceError {
    let action = format!("publish the domain {name}");
    SourceError::Os { action, source: std::io::Error::other(failure) }
}
