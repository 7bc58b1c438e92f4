//! A hostile QMP peer as a process of its own, for trials of a daemon that observes it.

#[path = "../../../sources/tests/hostile/mod.rs"]
mod hostile;

use std::path::Path;
use std::process::ExitCode;

use hostile::Hostility;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let (kind, socket) = match args.as_slice() {
        [_, kind, socket] | [_, kind, socket, _] => (kind.as_str(), Path::new(socket)),
        _ => ("", Path::new("")),
    };
    let Some((_, mut hostility)) = Hostility::NAMES.into_iter().find(|(name, _)| *name == kind)
    else {
        let names: Vec<&str> = Hostility::NAMES.iter().map(|(name, _)| *name).collect();
        eprintln!("usage: domstat-hostile-qmp KIND SOCKET [PID]; KIND: {}", names.join(", "));
        return ExitCode::from(2);
    };
    if let Some(pid) = args.get(3).and_then(|pid| pid.parse().ok()) {
        hostility = Hostility::WrongPid(pid);
    }
    let name = socket.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    hostile::serve(socket, &name.unwrap_or_default(), hostility);
    ExitCode::SUCCESS
}
