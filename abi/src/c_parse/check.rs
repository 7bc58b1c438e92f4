//! Compile-time checks of a header, evaluated: each must agree with its structures.

use super::{Cursor, Parts};
use crate::HeaderError;

impl Parts {
    /// A check such as `typedef char NAME[(sizeof(struct S) == 8) ? 1 : -1];`.
    pub(super) fn check(
        &self,
        line: usize,
        cursor: &mut Cursor<'_, '_>,
    ) -> Result<(), HeaderError> {
        self.included("stddef", line)?;
        cursor.expect("char")?;
        cursor.word("the name of a check")?;
        cursor.expect("[")?;
        cursor.expect("(")?;
        let (subject, found) = match cursor.word("offsetof or sizeof")? {
            "sizeof" => {
                cursor.expect("(")?;
                let of = self.operand(cursor)?;
                let size = self.structs.get(of).map(|of| of.size);
                (format!("struct domstat_{of}"), size)
            }
            "offsetof" => {
                cursor.expect("(")?;
                let of = self.operand(cursor)?;
                cursor.expect(",")?;
                let name = cursor.word("the name of a member")?;
                let members = self.structs.get(of).into_iter().flat_map(|of| &of.members);
                let offset = members.filter(|member| member.name == name).map(|m| m.offset).next();
                (format!("{name} of struct domstat_{of}"), offset)
            }
            other => return cursor.error(format!("expected offsetof or sizeof, found {other}")),
        };
        cursor.expect(")")?;
        cursor.expect("=")?;
        cursor.expect("=")?;
        let expected = cursor.usize()?;
        for token in [")", "?", "1", ":", "-", "1", "]", ";"] {
            cursor.expect(token)?;
        }
        match found {
            Some(found) if found == expected => Ok(()),
            Some(found) => {
                let what = format!("a check does not hold: {subject}: {found}, not {expected}");
                Err(HeaderError { line, what })
            }
            None => Err(HeaderError { line, what: format!("a check of nothing: {subject}") }),
        }
    }

    /// `struct domstat_NAME`, of which it returns the name.
    fn operand<'s>(&self, cursor: &mut Cursor<'_, 's>) -> Result<&'s str, HeaderError> {
        cursor.expect("struct")?;
        let name = cursor.word("the name of a struct")?;
        match name.strip_prefix("domstat_") {
            Some(name) => Ok(name),
            None => cursor.error(format!("struct {name} is not one of domstat's")),
        }
    }
}
