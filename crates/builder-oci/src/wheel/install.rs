//! Where a wheel's files come to lie in an image, and their way into a layer.
//!
//! Format: PEP 427 and PEP 491. The files are those of `uv pip install`, but for three: INSTALLER says `imagespec`;
//! REQUESTED and `direct_url.json`, which depend on who asked, are not written, so that a layer is a function of
//! its wheels.

use std::collections::BTreeMap;

use imagespec_core::digest::Digest;
use imagespec_core::event::Outcome;

use super::archive::Wheel;
use super::error::WheelError;
use super::name::WheelName;
use super::record::{self, Row};
use super::scripts;
use crate::cache::{Cache, Key};
use crate::layer::{Attributes, FORMAT_VERSION, Layer, LayerPath, LayerWriter};

/// Raised whenever the same wheel would be laid out otherwise.
const INSTALL_VERSION: &str = "1";
/// What INSTALLER says.
const INSTALLER: &[u8] = b"imagespec";

/// The folders of the Python environment that wheels are laid out in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scheme {
    venv: LayerPath,
    python_minor: u16,
}

/// A wheel whose files have their places.
pub struct Installation {
    wheel: Wheel,
    files: BTreeMap<String, Placed>,
}

struct Placed {
    mode: u32,
    content: Content,
}

enum Content {
    Held(Vec<u8>),
    /// A member of the wheel, by position.
    Member(usize),
}

impl Scheme {
    /// The environment in `venv` for Python 3.`python_minor`.
    pub fn new(venv: LayerPath, python_minor: u16) -> Self {
        Self { venv, python_minor }
    }

    /// Where packages lie, without a leading `/`.
    pub fn site_packages(&self) -> String {
        format!("{}/lib/python3.{}/site-packages", self.venv, self.python_minor)
    }

    /// The interpreter that scripts name in their first line.
    pub fn interpreter(&self) -> String {
        format!("/{}/bin/python", self.venv)
    }

    /// Whether a path belongs to the environment itself: its interpreter, its configuration, a link to a folder.
    fn is_reserved(&self, path: &str) -> bool {
        let below = path.strip_prefix(self.venv.as_str()).and_then(|rest| rest.strip_prefix('/')).unwrap_or(path);
        let versioned = format!("bin/python3.{}", self.python_minor);
        ["bin/python", "bin/python3", &versioned, "pyvenv.cfg", "lib64"].contains(&below) || below.starts_with("lib64/")
    }

    /// A path of the environment as RECORD has it: relative to the packages.
    fn relative(&self, path: &str) -> String {
        let inside = path.strip_prefix(&self.site_packages()).and_then(|rest| rest.strip_prefix('/'));
        let below = path.strip_prefix(self.venv.as_str()).and_then(|rest| rest.strip_prefix('/'));
        match (inside, below) {
            (Some(inside), _) => inside.to_owned(),
            (None, Some(below)) => format!("../../../{below}"),
            (None, None) => format!("/{path}"),
        }
    }
}

impl Installation {
    /// Gives every file of `wheel` its place in `scheme`.
    ///
    /// # Errors
    /// When a script cannot be read, the wheel has data of a kind that is not known, an entry point names no
    /// function, or two files come to lie in one place.
    pub fn new(mut wheel: Wheel, scheme: &Scheme) -> Result<Self, WheelError> {
        let launchers = launchers(&mut wheel, scheme)?;
        let data = format!("{}.data/", wheel.stem);
        let mut files = BTreeMap::new();
        let mut rows = BTreeMap::new();
        for position in 0..wheel.members.len() {
            let source = wheel.members[position].path.clone();
            let (path, is_script) = match source.strip_prefix(&data) {
                None => (format!("{}/{source}", scheme.site_packages()), false),
                Some(rest) => match place_of_data(rest, scheme, &wheel.name) {
                    Some(place) => place,
                    None => return Err(wheel.problem(position, "wheels have no data of this kind")),
                },
            };
            let mut placed = Placed { mode: wheel.members[position].mode, content: Content::Member(position) };
            let mut row = wheel.record[&source].clone();
            if is_script {
                let name = path.rsplit('/').next().unwrap_or_default();
                if scripts::is_launched(name, &launchers) {
                    continue;
                }
                placed.mode = 0o755;
                if wheel.begins_with(position, scripts::PLACEHOLDER)? {
                    let script = scripts::with_interpreter(&wheel.read(position)?, &scheme.interpreter());
                    row = Row::of(&script);
                    placed.content = Content::Held(script);
                }
            }
            rows.insert(scheme.relative(&path), row);
            if files.insert(path, placed).is_some() {
                return Err(wheel.problem(position, "another file comes to lie in its place"));
            }
        }
        let mut installation = Self { wheel, files };
        installation.add_generated(launchers, rows, scheme)?;
        if installation.files.keys().any(|path| scheme.is_reserved(path)) {
            let problem = "one of its files would replace one of the environment itself";
            return Err(WheelError::Malformed { wheel: installation.wheel.name.to_string(), problem });
        }
        Ok(installation)
    }

    fn add_generated(
        &mut self,
        launchers: BTreeMap<String, String>,
        mut rows: BTreeMap<String, Row>,
        scheme: &Scheme,
    ) -> Result<(), WheelError> {
        let folder = format!("{}/{}.dist-info", scheme.site_packages(), self.wheel.stem);
        let mut generated: Vec<(String, u32, Vec<u8>)> = launchers
            .into_iter()
            .map(|(name, text)| (format!("{}/bin/{name}", scheme.venv), 0o755, text.into_bytes()))
            .collect();
        generated.push((format!("{folder}/INSTALLER"), 0o644, INSTALLER.to_vec()));
        for (path, mode, content) in generated {
            rows.insert(scheme.relative(&path), Row::of(&content));
            self.files.insert(path, Placed { mode, content: Content::Held(content) });
        }
        let record_path = format!("{folder}/RECORD");
        rows.insert(scheme.relative(&record_path), Row::unhashed());
        let record =
            record::write(&rows).map_err(|source| WheelError::Record { wheel: self.wheel.name.to_string(), source })?;
        self.files.insert(record_path, Placed { mode: 0o644, content: Content::Held(record) });
        Ok(())
    }
}

/// Where a file of the `.data` folder comes to lie, and whether it is a script.
fn place_of_data(rest: &str, scheme: &Scheme, name: &WheelName) -> Option<(String, bool)> {
    let (kind, path) = rest.split_once('/')?;
    let venv = &scheme.venv;
    match kind {
        "purelib" | "platlib" => Some((format!("{}/{path}", scheme.site_packages()), false)),
        "data" => Some((format!("{venv}/{path}"), false)),
        "headers" => {
            let package = name.normalized();
            Some((format!("{venv}/include/site/python3.{}/{package}/{path}", scheme.python_minor), false))
        }
        "scripts" if !path.contains('/') => Some((format!("{venv}/bin/{path}"), true)),
        _ => None,
    }
}

fn launchers(wheel: &mut Wheel, scheme: &Scheme) -> Result<BTreeMap<String, String>, WheelError> {
    let Some(position) = wheel.member(&format!("{}.dist-info/entry_points.txt", wheel.stem)) else {
        return Ok(BTreeMap::new());
    };
    let content = wheel.read(position)?;
    let text = std::str::from_utf8(&content).map_err(|_| wheel.problem(position, "it is not UTF-8"))?;
    scripts::launchers(text, &scheme.interpreter(), scheme.python_minor)
        .map_err(|line| WheelError::EntryPoint { wheel: wheel.name.to_string(), line })
}

/// Writes the files of `installations` as one layer. Where two packages have one path, the later one has it.
///
/// # Errors
/// When content is not what RECORD says, a path is a file here and a folder there, or the layer cannot be written.
pub fn write(writer: &mut LayerWriter, installations: &mut [Installation]) -> Result<(), WheelError> {
    // Compared by component, as the writer wants them.
    let mut order: BTreeMap<Vec<String>, usize> = BTreeMap::new();
    for (number, installation) in installations.iter().enumerate() {
        for path in installation.files.keys() {
            order.insert(path.split('/').map(str::to_owned).collect(), number);
        }
    }
    let mut previous: Option<Vec<String>> = None;
    for (components, number) in order {
        let text = components.join("/");
        if let Some(previous) = previous
            && components.starts_with(&previous)
        {
            return Err(WheelError::Conflict { path: previous.join("/") });
        }
        previous = Some(components);
        let Installation { wheel, files } = &mut installations[number];
        let path =
            LayerPath::new(&text).map_err(|source| WheelError::Path { wheel: wheel.name.to_string(), source })?;
        let Placed { mode, content } = &files[&text];
        let attributes = Attributes::root(*mode);
        match content {
            Content::Held(bytes) => writer.file(&path, attributes, bytes.len() as u64, &mut bytes.as_slice())?,
            Content::Member(position) => {
                let size_bytes = wheel.members[*position].size_bytes;
                wheel.stream(*position, |reader| writer.file(&path, attributes, size_bytes, reader))?;
            }
        }
    }
    Ok(())
}

/// The layer of `wheels`, whose blobs are in the cache: made, or found by (wheel digests, Python, scheme, time,
/// versions of the formats).
///
/// # Errors
/// When a wheel is not in the cache or cannot be laid out, or the cache fails.
pub fn layer(
    cache: &Cache,
    wheels: &[(WheelName, Digest)],
    scheme: &Scheme,
    timestamp: u64,
) -> Result<(Layer, Outcome), WheelError> {
    let minor = scheme.python_minor.to_le_bytes();
    let time = timestamp.to_le_bytes();
    let versions = [FORMAT_VERSION.as_bytes(), INSTALL_VERSION.as_bytes()];
    let fixed = [minor.as_slice(), scheme.venv.as_str().as_bytes(), time.as_slice()];
    let parts = wheels.iter().flat_map(|(name, digest)| [name.as_str().as_bytes(), digest.as_bytes().as_slice()]);
    let key = Key::new("wheel", versions.into_iter().chain(fixed).chain(parts));
    cache.layer(key, timestamp, |writer| {
        let mut installations = Vec::with_capacity(wheels.len());
        for (name, digest) in wheels {
            let path = cache
                .verified_blob_path(*digest)?
                .ok_or_else(|| WheelError::Absent { wheel: name.to_string(), digest: *digest })?;
            installations.push(Installation::new(Wheel::open(&path, name)?, scheme)?);
        }
        write(writer, &mut installations)
    })
}
