//! Connection of a domain's observer: how libvirt is reached, and when the domain's region begins and
//! ends.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::Observer;
use super::requests::not_connected;
use crate::SourceError;
use crate::contract::{ControlError, ErrorCode, Event, ObserverStatus, Publisher};
use crate::libvirt::process_of;
use crate::libvirt::vm::{Identity, Report, Vm};
use crate::libvirt::worker::Found;
use crate::qemu::publishable;

/// The pause before a region is made again that could not be.
const RETRY: Duration = Duration::from_secs(1);

/// How libvirt is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// It is not connected.
    Down,
    /// It answers.
    Up,
    /// It is connected and owes an answer.
    Stuck,
}

/// Why a domain is no longer published.
#[derive(Clone, Copy)]
pub(super) enum End {
    /// It has ended.
    Domain,
    /// It is no longer observed.
    Daemon,
}

impl<P: Publisher> Observer<P> {
    pub(super) fn connected(&mut self, found: Found) {
        let was_up = self.link != Link::Down;
        self.noted.clear();
        self.current = None;
        let process = process_of(&self.options, &found.name, &self.target.uuid);
        let identity = Identity::new(&found, process.as_ref());
        if self.vm.as_ref().is_some_and(|vm| vm.identity() != identity) {
            self.end_vm(End::Domain);
        }
        self.set_link(Link::Up);
        match &mut self.vm {
            Some(vm) => {
                vm.jobs_reconnected(&found.look);
                self.look(&found.look);
                self.answer_lost();
                if !was_up {
                    self.report(Event::Connected);
                }
            }
            None => self.create(&found),
        }
    }

    /// Makes a region for the domain that was found, and has everything asked for.
    pub(super) fn create(&mut self, found: &Found) {
        let process = process_of(&self.options, &found.name, &self.target.uuid);
        if process.is_none() && self.options.pid_dir.is_some() {
            self.note(
                "its process is not seen through libvirt's pid file: no runstates, and CPU time, \
                 memory and interfaces as libvirt has them",
            );
        }
        let name = publishable(&found.name);
        let mut vm = Vm::new(name, self.target.uuid, found, process, self.address.clone());
        match vm.create(&mut self.publisher, &found.look) {
            Ok(()) => {
                vm.recall(&mut self.publisher);
                self.vm = Some(vm);
                self.look_soon();
            }
            Err(error) => self.not_published(&error),
        }
    }

    /// Nobody sees the domain: it is found again in a while.
    pub(super) fn not_published(&mut self, error: &SourceError) {
        self.note(&error.with_causes());
        self.end_vm(End::Daemon);
        self.find_at = Some(Instant::now() + RETRY);
    }

    pub(super) fn down(&mut self, why: &str) {
        self.note(why);
        let was_up = self.link == Link::Up;
        self.set_link(Link::Down);
        // A request that was not even sent is refused; one that was is decided by the level.
        self.give_up(&not_connected(), &not_connected());
        self.current = None;
        if let Some(vm) = &mut self.vm {
            vm.levels.cut();
            vm.fall_silent();
            if was_up {
                self.report(Event::Disconnected);
            }
        }
        self.refuse_all(&not_connected());
    }

    /// A worker that takes too long is not waited for.
    pub(super) fn check_deadline(&mut self, now: Instant) {
        let is_over = self.current.as_ref().is_some_and(|current| current.deadline <= now);
        if !is_over || self.link != Link::Up {
            return;
        }
        self.set_link(Link::Stuck);
        self.note(&format!("libvirt does not answer for it within {:?}", self.options.limit));
        let why = "libvirt does not answer for the domain: whether the threshold is armed shows when \
                   it does";
        let unknown = ControlError::new(ErrorCode::UnknownOutcome, why);
        self.give_up(&ControlError::stuck(), &unknown);
        self.refuse_all(&ControlError::stuck());
        if let Some(vm) = &mut self.vm {
            vm.fall_silent();
        }
        self.report(Event::Disconnected);
    }

    pub(super) fn end_vm(&mut self, end: End) {
        self.find_at = None;
        if let Some(mut vm) = self.vm.take() {
            vm.reconcile();
            vm.jobs_gone();
            if vm.was_published() {
                vm.reports.push(Report::Event(Event::Gone));
                vm.deliver(&mut self.publisher);
            }
            match end {
                End::Domain => vm.forget(&mut self.publisher),
                End::Daemon => vm.remember(&mut self.publisher),
            }
            let name = vm.was_published().then(|| vm.name.clone());
            // Retired before the note.
            drop(vm);
            if let Some(name) = name {
                self.publisher.note(&format!("{name} is no longer published"));
            }
        }
        for (_, reply) in self.lost.drain(..) {
            let _ = reply.send(Err(ControlError::gone()));
        }
        self.give_up(&ControlError::gone(), &ControlError::gone());
        self.refuse_all(&ControlError::gone());
        self.set_link(self.link);
    }

    pub(super) fn set_link(&mut self, link: Link) {
        self.link = link;
        let published = self.vm.as_ref().filter(|vm| vm.was_published());
        let domain = published.map(|vm| vm.name.clone());
        *self.channels.status.lock().unwrap_or_else(PoisonError::into_inner) =
            ObserverStatus { domain, connected: link == Link::Up };
    }
}
