//! The files of the Python environment itself: those that make a folder a venv over the base's Python. Pure.
//!
//! Format: PEP 405. There are no `activate` scripts: the image's PATH does what they do.

use crate::layer::{Attributes, InvalidLayerPath, LayerError, LayerPath, LayerWriter};

/// The interpreter of a base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interpreter {
    /// Absolute path in the image: `/usr/bin/python3.11`.
    pub path: String,
    /// The number after `3.` of its version.
    pub minor: u16,
    /// The number after that.
    pub patch: u16,
}

impl Interpreter {
    /// `3.11.2`
    pub fn version(&self) -> String {
        format!("3.{}.{}", self.minor, self.patch)
    }

    /// Whether `wanted`, two or three numbers, names this version.
    pub fn is_version(&self, wanted: &str) -> bool {
        wanted == self.version() || wanted == format!("3.{}", self.minor)
    }
}

/// A file of the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VenvFile {
    /// Where it lies.
    pub path: LayerPath,
    /// What it is.
    pub kind: VenvFileKind,
}

/// What a file of the environment is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VenvFileKind {
    /// A text of mode 0644.
    Text(String),
    /// A symbolic link to this target.
    Symlink(String),
    /// A folder of mode 0755.
    Directory,
}

/// The files of the environment in `venv` over `interpreter`, in the order of a layer.
///
/// # Errors
/// When `venv` is so long that a path in it is none for a layer.
pub fn venv(venv: &LayerPath, interpreter: &Interpreter) -> Result<Vec<VenvFile>, InvalidLayerPath> {
    let Interpreter { path, minor, .. } = interpreter;
    let version = interpreter.version();
    let home = path.rsplit_once('/').map_or("/", |(home, _)| if home.is_empty() { "/" } else { home });
    let configuration = format!(
        "home = {home}\nimplementation = CPython\nversion_info = {version}\ninclude-system-site-packages = true\n"
    );
    let symlink = |target: &str| VenvFileKind::Symlink(target.to_owned());
    [
        ("bin/python".to_owned(), symlink(path)),
        ("bin/python3".to_owned(), symlink("python")),
        (format!("bin/python3.{minor}"), symlink("python")),
        (format!("lib/python3.{minor}/site-packages"), VenvFileKind::Directory),
        ("lib64".to_owned(), symlink("lib")),
        ("pyvenv.cfg".to_owned(), VenvFileKind::Text(configuration)),
    ]
    .into_iter()
    .map(|(below, kind)| Ok(VenvFile { path: LayerPath::new(&format!("{venv}/{below}"))?, kind }))
    .collect()
}

/// Writes the files of an environment to a layer.
///
/// # Errors
/// When the layer cannot be written.
pub fn write_venv(writer: &mut LayerWriter, files: &[VenvFile]) -> Result<(), LayerError> {
    for VenvFile { path, kind } in files {
        match kind {
            VenvFileKind::Text(text) => {
                writer.file(path, Attributes::root(0o644), text.len() as u64, &mut text.as_bytes())?;
            }
            VenvFileKind::Symlink(target) => writer.symlink(path, target)?,
            VenvFileKind::Directory => writer.directory(path, Attributes::root(0o755))?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_names_its_home_and_links_to_its_interpreter() {
        let interpreter = Interpreter { path: "/usr/bin/python3.11".to_owned(), minor: 11, patch: 2 };
        let files = venv(&LayerPath::new("/opt/venv").unwrap(), &interpreter).unwrap();
        let lines: Vec<_> = files.iter().map(|file| format!("{} {:?}", file.path, file.kind)).collect();
        insta::assert_snapshot!(lines.join("\n"), @r#"
        opt/venv/bin/python Symlink("/usr/bin/python3.11")
        opt/venv/bin/python3 Symlink("python")
        opt/venv/bin/python3.11 Symlink("python")
        opt/venv/lib/python3.11/site-packages Directory
        opt/venv/lib64 Symlink("lib")
        opt/venv/pyvenv.cfg Text("home = /usr/bin\nimplementation = CPython\nversion_info = 3.11.2\ninclude-system-site-packages = true\n")
        "#);
    }
}
