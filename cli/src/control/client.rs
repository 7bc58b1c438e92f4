//! A client of the control socket.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use domstat_sources::control::{
    Answer, Cursor, EventLine, MAX_ANSWER, Request, Subscribed, line, parse,
};
use serde::de::DeserializeOwned;

use crate::error::Failure;
use crate::locate;

/// A connection to the daemon.
pub(crate) struct Client {
    path: PathBuf,
    input: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the daemon that listens at `path`, or next to the regions.
    pub(crate) fn connect(path: Option<&Path>, dir: Option<&Path>) -> Result<Self, Failure> {
        let path = match path {
            Some(path) => path.to_owned(),
            None => super::path_in(&locate::directory(dir)?),
        };
        let stream = UnixStream::connect(&path)
            .map_err(|source| Failure::NoDaemon { path: path.clone(), source })?;
        Ok(Self { path, input: BufReader::new(stream) })
    }

    /// Sends a request and waits for its answer.
    pub(crate) fn ask<T: DeserializeOwned>(&mut self, request: &Request) -> Result<T, Failure> {
        // A daemon that refuses the connection may have closed it already, its reason before.
        let sent = self.input.get_mut().write_all(line(request).as_bytes());
        let answer = self.next_line::<Answer<T>>();
        match (answer, sent) {
            (Ok(Some(Answer::Ok(value))), _) => Ok(value),
            (Ok(Some(Answer::Error(error))), _) => Err(Failure::Refused(error)),
            (_, Err(source)) => Err(self.failed(source)),
            (Ok(None), Ok(())) => Err(self.ended()),
            (Err(failure), Ok(())) => Err(failure),
        }
    }

    /// Subscribes; from here on [`Client::next_event`] gives events. Returns the place of the daemon's
    /// next event, which a daemon of an earlier version does not number.
    pub(crate) fn subscribe(
        &mut self,
        domain: Option<&str>,
        from: Option<&Cursor>,
    ) -> Result<Option<Cursor>, Failure> {
        let request = Request::Subscribe { domain: domain.map(str::to_owned), from: from.cloned() };
        self.ask::<Subscribed>(&request).map(|subscribed| subscribed.next)
    }

    /// The next event; `None` at the end.
    pub(crate) fn next_event(&mut self) -> Result<Option<EventLine>, Failure> {
        self.next_line()
    }

    fn next_line<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Failure> {
        let mut line = Vec::new();
        let longest = u64::try_from(MAX_ANSWER).unwrap_or(u64::MAX);
        let mut input = self.input.by_ref().take(longest);
        match input.read_until(b'\n', &mut line) {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(source) if source.kind() == ErrorKind::ConnectionReset => return Err(self.ended()),
            Err(source) => return Err(self.failed(source)),
        }
        parse(&line).map(Some).map_err(|e| self.failed(io::Error::new(ErrorKind::InvalidData, e)))
    }

    fn failed(&self, source: io::Error) -> Failure {
        Failure::NoDaemon { path: self.path.clone(), source }
    }

    /// The daemon, which was connected, closed the connection, which one that ends in order does not
    /// without a word.
    pub(crate) fn ended(&self) -> Failure {
        Failure::DaemonDied { path: self.path.clone() }
    }

    /// The daemon said that it ends.
    pub(crate) fn ended_in_order(&self) -> Failure {
        Failure::DaemonEnded { path: self.path.clone() }
    }

    /// Lets each wait for an event fail after this time.
    pub(crate) fn give_up_after(&self, time: Duration) -> Result<(), Failure> {
        let set = self.input.get_ref().set_read_timeout(Some(time));
        set.map_err(|source| self.failed(source))
    }

    /// The connection's descriptor, for a thread that closes it on a signal.
    pub(crate) fn stream(&self) -> Result<UnixStream, Failure> {
        self.input.get_ref().try_clone().map_err(|source| self.failed(source))
    }
}
