//! Thread of the host that runs a vCPU, as a group in the vCPU's arch slot: its id and its name.

use domstat_layout::Word;
use domstat_layout::schema::{FieldKind, FieldShape};

use crate::{ArchField, ArchGroup};

/// Words of a name: the kernel's names have at most 15 bytes, and a zero byte ends them.
const NAME_WORDS: usize = 2;
/// Its place in [`Description::arch_vcpu`](crate::Description::arch_vcpu).
pub(crate) const INDEX: usize = 0;
/// The words of a slot whose vCPU has no thread.
pub(crate) const NO_THREAD: [Word; 1 + NAME_WORDS] = [Word::NOT_PRODUCED; 1 + NAME_WORDS];

/// The group: `tid`, in the PID namespace of the producer, and `name`.
pub(crate) fn group() -> ArchGroup {
    let field = |name: &str, kind, nr| ArchField {
        name: name.to_owned(),
        shape: FieldShape { kind, nr, ..FieldShape::PLAIN },
    };
    let fields = vec![field("tid", FieldKind::ID, 0), field("name", FieldKind::TEXT, 2)];
    ArchGroup { name: "thread".to_owned(), fields }
}

/// Its words. A name that is too long is cut.
pub(crate) fn words(tid: i32, name: &str) -> [Word; 1 + NAME_WORDS] {
    let mut text = [0; 8 * NAME_WORDS];
    let len = name.floor_char_boundary(text.len() - 1);
    for (to, from) in text.iter_mut().zip(name.as_bytes().iter().take(len)) {
        *to = *from;
    }
    let (words, _) = text.as_chunks::<8>();
    let mut all = NO_THREAD;
    let [id, name @ ..] = &mut all;
    *id = u64::try_from(tid).ok().into();
    for (to, from) in name.iter_mut().zip(words) {
        *to = Word::from_raw(u64::from_ne_bytes(*from));
    }
    all
}

#[cfg(test)]
mod tests {
    use domstat_layout::schema::FieldSpec;

    use super::*;

    fn text(words: &[Word]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_raw().to_ne_bytes()).collect()
    }

    #[test]
    fn a_name_is_text_that_ends_within_its_words() {
        let [id, name @ ..] = words(7, "CPU 0/KVM");
        assert_eq!((id.value(), text(&name)), (Some(7), b"CPU 0/KVM\0\0\0\0\0\0\0".to_vec()));
        let [_, name @ ..] = words(7, "a-name-of-15-b\u{fffd}");
        assert_eq!(text(&name), b"a-name-of-15-b\0\0", "no half of a character");
    }

    #[test]
    fn the_words_are_those_that_are_described() {
        let group = group();
        let spec = |f: &ArchField| FieldSpec { name: "", shape: f.shape }.words();
        let nr: u32 = group.fields.iter().map(spec).sum();
        assert_eq!(usize::try_from(nr).unwrap(), NO_THREAD.len());
    }
}
