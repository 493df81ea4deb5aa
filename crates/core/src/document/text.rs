//! What is asked of a text before any parser sees it: size, UTF-8, and no character that hides something.

use super::SIZE_BYTES_MAX;
use crate::diagnostic::is_invisible;
use crate::place::{Place, Positions, Source};
use crate::spec::error::{SpecError, SpecErrorKind};

/// The text without its byte order mark.
///
/// # Errors
/// When it is too large, no UTF-8, or holds a character that may not stand in a spec.
pub(super) fn check(name: &str, bytes: &[u8]) -> Result<String, SpecError> {
    if bytes.len() as u64 > SIZE_BYTES_MAX {
        let kind = SpecErrorKind::TooLarge { limit_bytes: SIZE_BYTES_MAX };
        return Err(SpecError::new(kind, place_in(name, "", 0)).hint("is this the file that you meant?"));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let valid = error.valid_up_to();
        // The replacement characters stand behind the place, so that they do not move it.
        let place = place_in(name, &String::from_utf8_lossy(bytes), valid);
        let byte = bytes.get(valid).copied().unwrap_or_default();
        SpecError::new(SpecErrorKind::NotUtf8 { byte }, place).hint("save the file as UTF-8")
    })?;
    let mut characters = text.char_indices().peekable();
    while let Some((offset, character)) = characters.next() {
        let is_newline = character == '\r' && characters.peek().is_some_and(|(_, next)| *next == '\n');
        if !is_newline && (character == '\r' || forbidden(character)) {
            let place = place_in(name, text, offset);
            return Err(SpecError::new(SpecErrorKind::ForbiddenCharacter { character }, place)
                .hint("remove it: it cannot be seen, and it changes how the file is read"));
        }
    }
    Ok(text.to_owned())
}

/// The first character of a value that no value may hold; an escape brings it there.
pub(crate) fn forbidden_in_value(text: &str) -> Option<char> {
    text.chars().find(|character| *character == '\r' || forbidden(*character))
}

fn forbidden(character: char) -> bool {
    match character {
        '\n' | '\t' | '\r' => false,
        _ => character.is_control() || is_invisible(character),
    }
}

fn place_in(name: &str, text: &str, offset: usize) -> Place {
    Positions::new(Source { name: name.to_owned(), text: text.to_owned() }).place(offset..offset + 1)
}
