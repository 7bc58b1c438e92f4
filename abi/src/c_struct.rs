//! Layout of C structures of any project, as a C compiler lays them out: the compiler is asked for
//! debugging information (DWARF), so that alignment, packing, bit-fields and nesting are its own.

mod compare;
mod dwarf;

use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::process::Command;

use serde::Serialize;

pub use compare::{StructRules, compare_structs};

/// A structure of a C header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CStruct {
    /// Its name.
    pub name: String,
    /// Its length in bytes, as `sizeof` has it.
    pub size: u64,
    /// Its members in order of their places; those of nested structures stand under their path.
    pub members: Vec<Member>,
}

/// A member of a structure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Member {
    /// Its path, such as `header.magic`, `slot[].seq` or `flags`.
    pub path: String,
    /// Its place in bits from the start.
    pub bit_offset: u64,
    /// Its length in bits; of an array of structures, that of the member in the first element.
    pub bit_size: u64,
    /// What its bits are: `unsigned`, `signed`, `float`, `pointer`, `enum`, ...
    pub kind: String,
    /// Lengths of the arrays that it is in, with the bytes from one element to the next.
    pub arrays: Vec<(u64, u64)>,
    /// Names and values of an enumeration.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<(String, i128)>,
}

/// A C compiler that knows `-g` and `-shared`, as gcc and clang do.
#[derive(Clone, Debug)]
pub struct Compiler {
    /// The command.
    pub cc: String,
    /// Its options, such as `-I` and `-m32`.
    pub flags: Vec<String>,
}

/// Reason why the layout of a structure is not known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StructError {
    /// A file cannot be read or written, or the compiler cannot be run.
    #[error("cannot {action}: {source}")]
    Os {
        /// The action that failed.
        action: String,
        /// The system's error.
        source: io::Error,
    },
    /// The compiler does not accept the header or the structure.
    #[error("{cc} does not compile the header with struct {name}:\n{output}")]
    Compile {
        /// The compiler.
        cc: String,
        /// The structure.
        name: String,
        /// The compiler's output.
        output: String,
    },
    /// The compiler's debugging information cannot be used.
    #[error("the debugging information of struct {name} cannot be used: {why}")]
    Dwarf {
        /// The structure.
        name: String,
        /// Why not.
        why: String,
    },
}

/// Asks `compiler` how it lays out the structure `name` of `header`: a tag (`struct name`) or else a
/// typedef. Sources and objects are written to `dir`.
///
/// # Errors
/// [`StructError`] if the compiler cannot be run, refuses, or leaves the layout open.
pub fn read_struct(
    header: &Path,
    name: &str,
    compiler: &Compiler,
    dir: &Path,
) -> Result<CStruct, StructError> {
    let os = |action: String| move |source| StructError::Os { action, source };
    let path = header.canonicalize().map_err(os(format!("open {}", header.display())))?;
    let (source, object) = (dir.join("probe.c"), dir.join("probe.so"));
    let mut first_error = None;
    for ty in [format!("struct {name}"), name.to_owned()] {
        let mut text = String::from("#include <stddef.h>\n#include <stdint.h>\n");
        let _ = writeln!(text, "#include \"{}\"\n{ty} {};", path.display(), dwarf::VARIABLE);
        std::fs::write(&source, text).map_err(os(format!("write {}", source.display())))?;
        // Linked, so that references inside the debugging information are resolved.
        let output = Command::new(&compiler.cc)
            .args(["-gdwarf-5", "-O0", "-w", "-fPIC", "-shared", "-nostdlib"])
            .args(&compiler.flags)
            .arg("-o")
            .args([&object, &source])
            .output();
        let output = output.map_err(os(format!("run the C compiler {}", compiler.cc)))?;
        if output.status.success() {
            let object =
                std::fs::read(&object).map_err(os(format!("read {}", object.display())))?;
            let found = dwarf::structure(&object, name);
            return found.map_err(|why| StructError::Dwarf { name: name.to_owned(), why });
        }
        first_error.get_or_insert_with(|| String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Err(StructError::Compile {
        cc: compiler.cc.clone(),
        name: name.to_owned(),
        output: first_error.unwrap_or_default(),
    })
}
