//! Programs in `bin`: launchers of entry points, and scripts whose first line names the interpreter. Pure.
//!
//! Format: PyPA's "Entry points specification"; the launchers are those that uv writes.

use std::collections::BTreeMap;

/// What a wheel's script begins with when the installer must put in the interpreter (PEP 427).
pub(super) const PLACEHOLDER: &[u8] = b"#!python";

/// The launchers that `entry_points.txt` asks for, by name of the program; a line that names no function is the error.
pub(crate) fn launchers(text: &str, interpreter: &str, python_minor: u16) -> Result<BTreeMap<String, String>, String> {
    let mut launchers = BTreeMap::new();
    let mut wanted = false;
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(section) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            wanted = matches!(section.trim(), "console_scripts" | "gui_scripts");
            continue;
        }
        if !wanted {
            continue;
        }
        let (name, launcher) = launcher(line, interpreter).ok_or_else(|| line.to_owned())?;
        launchers.insert(for_python(name, python_minor), launcher);
    }
    Ok(launchers)
}

/// pip's own wheel names one program after the Python that it was made with; installers name it after the target's.
fn for_python(name: &str, python_minor: u16) -> String {
    match name.strip_prefix("pip3.") {
        Some(digits) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("pip3.{python_minor}")
        }
        _ => name.to_owned(),
    }
}

fn launcher<'a>(line: &'a str, interpreter: &str) -> Option<(&'a str, String)> {
    let (name, value) = line.split_once('=')?;
    let name = name.trim();
    let value = value.split('[').next().unwrap_or_default().trim();
    let (module, function) = value.split_once(':')?;
    let (module, function) = (module.trim(), function.trim());
    let dotted = |text: &str| {
        text.split('.').all(|part| {
            !part.is_empty() && part.chars().all(|character| character.is_alphanumeric() || character == '_')
        })
    };
    if name.is_empty() || name.contains(['/', '\\']) || !dotted(module) || !dotted(function) {
        return None;
    }
    let imported = function.split('.').next().unwrap_or(function);
    let text = format!(
        r#"#!{interpreter}
# -*- coding: utf-8 -*-
import sys
from {module} import {imported}
if __name__ == "__main__":
    if sys.argv[0].endswith("-script.pyw"):
        sys.argv[0] = sys.argv[0][:-11]
    elif sys.argv[0].endswith(".exe"):
        sys.argv[0] = sys.argv[0][:-4]
    sys.exit({function}())
"#
    );
    Some((name, text))
}

/// A script with the interpreter put in for the placeholder that it begins with; arguments behind it stay.
pub(super) fn with_interpreter(script: &[u8], interpreter: &str) -> Vec<u8> {
    let rest = script.strip_prefix(PLACEHOLDER).unwrap_or(script);
    // `pythonw` is the interpreter of graphical programs on Windows alone.
    let rest = rest.strip_prefix(b"w").unwrap_or(rest);
    [b"#!", interpreter.as_bytes(), rest].concat()
}

/// Whether a wheel's script is what an older tool made of the entry point `launchers` has, and is left out.
pub(super) fn is_launched(script: &str, launchers: &BTreeMap<String, String>) -> bool {
    let name = [".exe", "-script.py", ".pya"].iter().find_map(|suffix| script.strip_suffix(suffix)).unwrap_or(script);
    launchers.contains_key(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn launchers_import_the_outermost_name_and_call_the_whole() {
        let text =
            "# c\n[other]\nx = y\n[console_scripts]\n  a = m.n:C.run [extra]\npip3.10=p:main\n[gui_scripts]\ng=w:go\n";
        let launchers = launchers(text, "/opt/venv/bin/python", 11).unwrap();
        assert_eq!(launchers.keys().collect::<Vec<_>>(), ["a", "g", "pip3.11"]);
        insta::assert_snapshot!(launchers["a"], @r#"
        #!/opt/venv/bin/python
        # -*- coding: utf-8 -*-
        import sys
        from m.n import C
        if __name__ == "__main__":
            if sys.argv[0].endswith("-script.pyw"):
                sys.argv[0] = sys.argv[0][:-11]
            elif sys.argv[0].endswith(".exe"):
                sys.argv[0] = sys.argv[0][:-4]
            sys.exit(C.run())
        "#);
    }

    #[test]
    fn an_entry_point_cannot_bring_in_other_code_or_paths() {
        for line in ["a = m", "a = m:f();g", "../a = m:f", "= m:f", "a = :f", "a = m:", "a = m;os:f", "a"] {
            assert_eq!(launchers(&format!("[console_scripts]\n{line}"), "/p", 11), Err(line.to_owned()));
        }
    }

    #[test]
    fn the_placeholder_gives_way_to_the_interpreter_and_arguments_stay() {
        assert_eq!(with_interpreter(b"#!python -E\nx", "/p"), b"#!/p -E\nx");
        assert_eq!(with_interpreter(b"#!pythonw\nx", "/p"), b"#!/p\nx");
    }
}
