//! Write thresholds of a VM: arming, and what QEMU reports of those that are armed.
//!
//! A threshold belongs to a node, a request names a disk, and which node is the disk's changes with
//! each snapshot and each job that ends. So a request asks QEMU for the chain as it is now, arms the
//! node, and looks again: if the disk has another node by then, what was armed is disarmed and the
//! request begins again.

use std::collections::BTreeMap;

use super::Report;
use super::VmState;
use crate::contract::{
    Armed, ArmedThresholds, ControlError, ErrorCode, Event, LossReason, Publisher, Reply,
    SetRequest, ThresholdSet,
};
use crate::qemu::decode::Node;
use crate::qemu::limits::MAX_NODES;
use crate::qemu::qmp::{Connection, QmpError};
use crate::qemu::queries;
use crate::qemu::threshold::SetOutcome;

/// How often a request begins again while the disk's images change.
const MAX_ATTEMPTS: u32 = 5;

/// A threshold that was sent to QEMU, with the node that is to be armed.
struct Plan {
    disk: String,
    node: String,
    threshold: u64,
}

impl Plan {
    /// Whether the report says that this threshold was lost.
    fn is_loss(&self, report: &Report) -> bool {
        matches!(report, Report::Event(Event::ThresholdLost { node, threshold_bytes, .. })
            if *node == self.node && *threshold_bytes == self.threshold)
    }

    fn answer(&self) -> ThresholdSet {
        ThresholdSet {
            disk: self.disk.clone(),
            node: self.node.clone(),
            threshold_bytes: self.threshold,
        }
    }
}

/// A request whose answer was lost with the connection.
pub(super) struct SetInFlight {
    plan: Plan,
    reply: Reply<ThresholdSet>,
}

impl SetInFlight {
    pub(super) fn answer(self, answer: Result<ThresholdSet, ControlError>) {
        let _ = self.reply.send(answer);
    }
}

/// Why a threshold is not armed.
enum ArmError {
    /// The request is refused.
    Refused(ControlError),
    /// QEMU was not asked, or did not answer, and nothing is armed by that.
    Qmp(QmpError),
    /// The connection broke before QEMU answered.
    Lost(Box<Plan>, QmpError),
}

impl From<ControlError> for ArmError {
    fn from(error: ControlError) -> Self {
        Self::Refused(error)
    }
}

impl From<QmpError> for ArmError {
    fn from(error: QmpError) -> Self {
        Self::Qmp(error)
    }
}

impl<P: Publisher> VmState<P> {
    /// Arms or disarms a threshold and answers.
    pub(in crate::qemu) fn set_threshold(
        &mut self,
        qmp: &mut Connection,
        request: &SetRequest,
        reply: Reply<ThresholdSet>,
        publisher: &mut P,
    ) -> Result<(), QmpError> {
        let (answer, result) = match self.arm(qmp, request, publisher) {
            Ok(plan) => (Ok(plan.answer()), Ok(())),
            Err(ArmError::Refused(error)) => (Err(error), Ok(())),
            Err(ArmError::Qmp(QmpError::Refused { source, .. })) => {
                (Err(ControlError::new(ErrorCode::Refused, source.desc)), Ok(()))
            }
            Err(ArmError::Qmp(error)) if error.is_of_the_command() => {
                (Err(ControlError::stuck()), Ok(()))
            }
            Err(ArmError::Qmp(error)) => (Err(ControlError::disconnected()), Err(error)),
            Err(ArmError::Lost(plan, error)) if error.is_of_the_command() => {
                let why =
                    format!("{error}: whether {} is armed shows when it answers again", plan.disk);
                (Err(ControlError::new(ErrorCode::UnknownOutcome, why)), Ok(()))
            }
            Err(ArmError::Lost(plan, error)) => {
                // Answered over the next connection.
                self.lost.push(SetInFlight { plan: *plan, reply });
                return Err(error);
            }
        };
        // First, so that a daemon that dies now has promised nothing.
        self.remember(publisher);
        let _ = reply.send(answer);
        result
    }

    fn arm(
        &mut self,
        qmp: &mut Connection,
        request: &SetRequest,
        publisher: &mut P,
    ) -> Result<Plan, ArmError> {
        for _ in 0..MAX_ATTEMPTS {
            self.extents(qmp)?;
            let plan = self.plan(request)?;
            let before = self.thresholds.armed(&plan.node);
            if self.thresholds.must_disarm_first(&plan.node, plan.threshold) {
                self.set_node(qmp, &plan.node, 0, publisher)?;
            }
            match self.set_node(qmp, &plan.node, plan.threshold, publisher) {
                Ok(()) => {}
                // A job that ended may have removed the node: look again.
                Err(QmpError::Refused { .. }) if self.is_replaced(qmp, &plan)? => continue,
                Err(error @ QmpError::Refused { .. }) => return Err(error.into()),
                Err(error) => return Err(ArmError::Lost(Box::new(plan), error)),
            }
            if !self.is_replaced(qmp, &plan)? {
                self.check_level(&plan)?;
                self.note_replaced_threshold(&plan.node, before, plan.threshold);
                return Ok(plan);
            }
            // What was armed by this request is not lost: it is armed again.
            self.reports.retain(|report| !plan.is_loss(report));
            if plan.threshold > 0 {
                match self.set_node(qmp, &plan.node, 0, publisher) {
                    // A node that was removed has no threshold.
                    Ok(()) | Err(QmpError::Refused { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        let why = format!("the images of {} change all the time: try again", request.disk);
        Err(ControlError::new(ErrorCode::Busy, why).into())
    }

    fn plan(&self, request: &SetRequest) -> Result<Plan, ControlError> {
        let disks = self.disks();
        let disk = crate::qemu::find(&disks, &request.disk)?;
        let threshold = request.bytes(disk.capacity_bytes, disk.physical_bytes)?;
        let no_node =
            || ControlError::new(ErrorCode::Refused, format!("{} has no medium", disk.name));
        let node = disk.storage_node.clone().ok_or_else(no_node)?;
        if self.thresholds.is_pending(&node) {
            let why = format!("another request for {} is not answered yet", disk.name);
            return Err(ControlError::new(ErrorCode::Busy, why));
        }
        Ok(Plan { disk: disk.name.clone(), node, threshold })
    }

    /// Whether the disk has another storage by now than the one that was armed.
    fn is_replaced(&mut self, qmp: &mut Connection, plan: &Plan) -> Result<bool, QmpError> {
        self.extents(qmp)?;
        Ok(self.storage_of(&plan.disk) != Some(plan.node.as_str()))
    }

    /// Refuses if QEMU says by now that the node has another threshold than the one that it took. With
    /// none it has fired, which is reported.
    fn check_level(&self, plan: &Plan) -> Result<(), ControlError> {
        let level = self.nodes.get(&plan.node).map_or(0, |node| node.threshold);
        if level == 0 || level == plan.threshold {
            return Ok(());
        }
        let why = format!(
            "{} has a threshold of {level} bytes now: QEMU did not set the one of {} bytes that it \
             took, or another client has replaced it",
            plan.disk, plan.threshold
        );
        Err(ControlError::new(ErrorCode::Busy, why))
    }

    /// Reports a threshold that was armed, has not fired, and is not armed any more.
    fn note_replaced_threshold(&mut self, node: &str, before: Option<u64>, new_bytes: u64) {
        let Some(threshold_bytes) = before.filter(|before| *before != new_bytes) else { return };
        let fired = |report: &Report| {
            matches!(report, Report::Firing(of, firing)
                if of == node && firing.threshold == threshold_bytes)
        };
        if self.reports.iter().any(fired) {
            return;
        }
        let (disk, node) = (self.disk_of_node(node), node.to_owned());
        self.report(Event::ThresholdReplaced { disk, node, threshold_bytes, new_bytes });
    }

    /// Sets the threshold of a node and waits until QEMU has taken it. What it is about to set is kept
    /// first: the daemon may die before it has recorded the answer.
    fn set_node(
        &mut self,
        qmp: &mut Connection,
        node: &str,
        threshold: u64,
        publisher: &mut P,
    ) -> Result<(), QmpError> {
        self.thresholds.sent(node, threshold);
        self.is_remembered = false;
        self.remember(publisher);
        let result = queries::set_threshold(qmp, node, threshold);
        self.is_remembered = false;
        // Events that came before the answer are of what was armed before.
        let drained = self.drain_before(qmp);
        match &result {
            Ok(()) => self.thresholds.answered(node, true),
            Err(QmpError::Refused { .. }) => self.thresholds.answered(node, false),
            Err(_) => self.thresholds.cut(),
        }
        drained?;
        result
    }

    /// Takes what QEMU reports of its nodes: thresholds that fired unseen, requests whose answers
    /// were lost. The chains are as new as the nodes.
    pub(super) fn levels(&mut self, nodes: Vec<Node>) {
        let mut replaced = Vec::new();
        let recalled = std::mem::take(&mut self.recalled);
        for node in &nodes {
            let before = self.thresholds.armed(&node.name);
            let (firing, outcome) = self.thresholds.level(&node.name, node.threshold);
            let foreign = recalled.iter().find(|armed| {
                armed.node == node.name
                    && (armed.source != node.file || self.disk_of_node(&node.name) != armed.disk)
            });
            let interrupted = recalled
                .iter()
                .find(|armed| armed.node == node.name && armed.intended_bytes.is_some());
            if let (Some(_), Some(armed)) = (firing, foreign) {
                self.report_lost(armed, LossReason::DiskChanged);
            } else if let (0, Some(armed)) = (node.threshold, interrupted) {
                self.report_lost(armed, LossReason::RequestInterrupted);
            } else if let Some(firing) = firing {
                self.reports.push(Report::Firing(node.name.clone(), firing));
            } else if self.thresholds.armed(&node.name) != before {
                replaced.push((node.name.clone(), before, node.threshold));
            }
            let Some(outcome) = outcome else { continue };
            let (mine, others): (Vec<SetInFlight>, _) =
                std::mem::take(&mut self.lost).into_iter().partition(|s| s.plan.node == node.name);
            self.lost = others;
            for set in mine {
                let answer = self.lost_answer(&set.plan, outcome);
                set.answer(answer);
            }
        }
        self.nodes = nodes.into_iter().map(|node| (node.name.clone(), node)).collect();
        let exists = &self.nodes;
        let lost = self.thresholds.retain(|name| exists.contains_key(name));
        for (node, threshold_bytes) in lost {
            let known =
                self.remembered.armed.iter().chain(&recalled).find(|armed| armed.node == node);
            let disk = known.map_or_else(|| node.clone(), |armed| armed.disk.clone());
            let armed = Armed { disk, node, threshold_bytes, ..Armed::default() };
            self.report_lost(&armed, LossReason::NodeRemoved);
        }
        let was_removed =
            |armed: &&Armed| armed.threshold_bytes == 0 && !self.nodes.contains_key(&armed.node);
        let removed: Vec<_> = recalled.iter().filter(was_removed).cloned().collect();
        removed.iter().for_each(|armed| self.report_lost(armed, LossReason::NodeRemoved));
        self.is_remembered = false;
        for (node, before, new_bytes) in replaced {
            self.note_replaced_threshold(&node, before, new_bytes);
        }
    }

    fn report_lost(&mut self, armed: &Armed, reason: LossReason) {
        let threshold_bytes = armed.at_stake();
        let Armed { disk, node, .. } = armed.clone();
        self.report(Event::ThresholdLost { disk, node, threshold_bytes, reason });
    }

    /// Takes up what the daemon before had armed. What has fired since shows in the first levels, if
    /// this is still the same QEMU.
    pub(in crate::qemu) fn recall(&mut self, before: ArmedThresholds) {
        let is_same = self.identity.process.is_some() && self.identity.process == before.process;
        let reason = match before.process.and(self.identity.process) {
            Some(_) => LossReason::VmRestarted,
            None => LossReason::VmNotKnown,
        };
        self.remembered = before.clone();
        self.is_remembered = before.armed.is_empty();
        for armed in before.armed.into_iter().take(MAX_NODES) {
            if is_same {
                if armed.threshold_bytes > 0 {
                    self.thresholds.recall(&armed.node, armed.threshold_bytes);
                }
                self.recalled.push(armed);
            } else {
                self.report_lost(&armed, reason);
            }
        }
    }

    /// Hands over what is armed, for the daemon after this one, if it has changed.
    pub(in crate::qemu) fn remember(&mut self, publisher: &mut P) {
        if std::mem::replace(&mut self.is_remembered, true) {
            return;
        }
        let now = ArmedThresholds {
            domain: self.identity.name.clone(),
            process: self.identity.process,
            armed: self.armed_now(),
        };
        if now != self.remembered && !(now.armed.is_empty() && self.remembered.armed.is_empty()) {
            publisher.remember(&self.address, &now);
        }
        self.remembered = now;
    }

    /// The VM has ended, and its thresholds with it.
    pub(in crate::qemu) fn forget(&mut self, publisher: &mut P) {
        if !std::mem::take(&mut self.remembered).armed.is_empty() {
            publisher.remember(&self.address, &ArmedThresholds::default());
        }
    }

    fn armed_now(&self) -> Vec<Armed> {
        let mut all = self.thresholds.all_at_stake().peekable();
        if all.peek().is_none() {
            return Vec::new();
        }
        let images: Vec<_> = self.images().collect();
        // Of several disks of one node the first, as `disk_of_node` has it.
        let mut disks = BTreeMap::<&str, &str>::new();
        for (disk, .., layer) in &images {
            for node in layer.nodes() {
                disks.entry(node).or_insert(disk);
            }
        }
        all.map(|(node, threshold_bytes, intended_bytes)| Armed {
            disk: disks.get(node).copied().unwrap_or(node).to_owned(),
            node: node.to_owned(),
            source: self.nodes.get(node).and_then(|node| node.file.clone()),
            threshold_bytes,
            intended_bytes,
        })
        .collect()
    }

    fn lost_answer(&self, plan: &Plan, outcome: SetOutcome) -> Result<ThresholdSet, ControlError> {
        let is_active = self.storage_of(&plan.disk) == Some(plan.node.as_str());
        let why = match outcome {
            SetOutcome::Set if is_active => return Ok(plan.answer()),
            SetOutcome::Set => "has another image now",
            SetOutcome::Unknown => {
                "has no threshold now: either the request never arrived, or it did and fired"
            }
        };
        let disk = &plan.disk;
        let why =
            format!("the connection broke before QEMU answered, and {disk} {why}; set it again");
        Err(ControlError::new(ErrorCode::UnknownOutcome, why))
    }
}
