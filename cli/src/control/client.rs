//! The other end of the control socket.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::error::Failure;
use crate::locate;

/// A connection to the daemon.
pub(crate) struct Client {
    path: PathBuf,
    input: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the daemon that listens at `path`, or beside the regions.
    pub(crate) fn connect(path: Option<&Path>, dir: Option<&Path>) -> Result<Self, Failure> {
        let path = match path {
            Some(path) => path.to_owned(),
            None => super::path_in(&locate::directory(dir)?),
        };
        let stream = UnixStream::connect(&path)
            .map_err(|source| Failure::NoDaemon { path: path.clone(), source })?;
        Ok(Self { path, input: BufReader::new(stream) })
    }

    /// Asks and waits for the answer.
    pub(crate) fn ask(&mut self, request: &Value) -> Result<Value, Failure> {
        let os = |source| Failure::NoDaemon { path: self.path.clone(), source };
        writeln!(self.input.get_mut(), "{request}").map_err(os)?;
        let Some(mut answer) = self.next_line()? else { return Err(self.ended()) };
        if answer["error"].is_object() {
            let text = |key: &str| answer["error"][key].as_str().unwrap_or_default().to_owned();
            return Err(Failure::Refused { code: text("code"), message: text("message") });
        }
        Ok(answer.get_mut("ok").map(Value::take).unwrap_or_default())
    }

    /// From here on every line is an event.
    pub(crate) fn subscribe(&mut self, domain: Option<&str>) -> Result<(), Failure> {
        self.ask(&json!({ "op": "subscribe", "domain": domain })).map(|_| ())
    }

    /// The next line; `None` at the end.
    pub(crate) fn next_line(&mut self) -> Result<Option<Value>, Failure> {
        let mut line = String::new();
        let os = |source| Failure::NoDaemon { path: self.path.clone(), source };
        if self.input.read_line(&mut line).map_err(os)? == 0 {
            return Ok(None);
        }
        let bad = |e: serde_json::Error| os(std::io::Error::other(e));
        serde_json::from_str(&line).map(Some).map_err(bad)
    }

    /// The daemon ended before it answered.
    pub(crate) fn ended(&self) -> Failure {
        let source = std::io::ErrorKind::UnexpectedEof.into();
        Failure::NoDaemon { path: self.path.clone(), source }
    }

    /// The connection's descriptor, to be closed from a signal's thread.
    pub(crate) fn stream(&self) -> Result<UnixStream, Failure> {
        let os = |source| Failure::NoDaemon { path: self.path.clone(), source };
        self.input.get_ref().try_clone().map_err(os)
    }
}
