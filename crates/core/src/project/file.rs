//! The project file and the user's config: one grammar, but for `[images]`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::load::{folder_of, read};
use super::plugins::Plugin;
use crate::builder::RegistryAccess;
use crate::digest::Digest;
use crate::document::{Entry, Format, Node, Scalar, ScalarKind, Value};
use crate::place::Located;
use crate::reference::Reference;
use crate::spec::check;
use crate::spec::decode::Decoder;
use crate::spec::error::{self, Refusal, SpecError};
use crate::suggestion;

/// What a project file is called.
pub const PROJECT_FILE: &str = "imagespec.toml";

/// A project file or the user's config.
#[derive(Debug, Clone)]
pub struct Project {
    /// The file, absolute.
    pub path: PathBuf,
    /// Its folder, absolute, from which its relative paths start.
    pub directory: PathBuf,
    /// `[project] builder`
    pub builder: Option<Located<String>>,
    /// `[project] registry`, for specs that name none.
    pub registry: Option<Located<String>>,
    /// `[project] debian_mirror`
    pub debian_mirror: Option<Located<String>>,
    /// `[registries."HOST"]`, with absolute paths.
    pub registries: BTreeMap<String, RegistryAccess>,
    /// `[builders.NAME]`
    pub builders: BTreeMap<String, BTreeMap<String, Located<serde_json::Value>>>,
    /// `[plugins.NAME]`
    pub plugins: BTreeMap<String, Plugin>,
    /// `[approved."PROJECT FILE"]` of the user's config: the plugins of projects that the user trusts, by project file
    /// and name, with the digest that was looked at.
    pub approved: BTreeMap<PathBuf, BTreeMap<String, Digest>>,
    /// `[defaults]`
    pub(super) defaults: Option<Node>,
    /// `[images.NAME]` in the order in which they were written.
    pub(super) images: Vec<Image>,
}

/// Which of the two files it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProjectRole {
    /// `imagespec.toml` of a project.
    Project,
    /// `config.toml` of a user, without `[images]`.
    User,
}

/// One image of a project.
#[derive(Debug, Clone)]
pub(super) struct Image {
    pub(super) name: Located<String>,
    pub(super) spec: Option<Located<PathBuf>>,
    pub(super) builder: Option<Located<String>>,
    /// A mapping with the other fields.
    pub(super) fields: Node,
}

/// The project file of the folder `start`: in it, or in a folder above it.
///
/// The way up ends at the root of a repository (a folder with `.git`), and at a folder that anybody may write to, such
/// as `/tmp`, because a stranger's file must not change a build.
pub fn find_project(start: &Path) -> Option<PathBuf> {
    let start = start.canonicalize().ok()?;
    for (index, folder) in start.ancestors().enumerate() {
        let is_shared = fs::metadata(folder).is_ok_and(|metadata| metadata.mode() & 0o002 != 0);
        if is_shared && index > 0 {
            return None;
        }
        let file = folder.join(PROJECT_FILE);
        if file.is_file() {
            return Some(file);
        }
        if is_shared || folder.join(".git").exists() {
            return None;
        }
    }
    None
}

impl Project {
    /// Reads the file at `path`. `name` is how errors call it.
    ///
    /// # Errors
    /// Everything that is wrong with it, in the order of the text.
    pub fn read(path: &Path, name: &str, role: ProjectRole) -> Result<Self, Vec<SpecError>> {
        let text = read(path).map_err(|error| vec![error])?;
        let (path, directory) = folder_of(path).map_err(|error| vec![error])?;
        Self::parse(name, &text, path, directory, role)
    }

    fn parse(
        name: &str,
        text: &[u8],
        path: PathBuf,
        directory: PathBuf,
        role: ProjectRole,
    ) -> Result<Self, Vec<SpecError>> {
        let mut project = Self {
            path,
            directory,
            builder: None,
            registry: None,
            debian_mirror: None,
            registries: BTreeMap::new(),
            builders: BTreeMap::new(),
            plugins: BTreeMap::new(),
            approved: BTreeMap::new(),
            defaults: None,
            images: Vec::new(),
        };
        let node = match Node::parse(name, text, Format::Toml) {
            Ok(node) => node,
            // A project file marks the root of a project even if it says nothing else.
            Err(SpecError { kind: error::SpecErrorKind::Empty, .. }) => return Ok(project),
            Err(error) => return Err(vec![error]),
        };
        let mut reader = Reader { decoder: Decoder::default(), project: &mut project, role };
        reader.file(&node);
        let mut errors = reader.decoder.errors;
        if errors.is_empty() {
            return Ok(project);
        }
        error::sort(&mut errors);
        Err(errors)
    }

    /// The names of the images, in the order in which they were written.
    pub fn image_names(&self) -> impl Iterator<Item = &str> {
        self.images.iter().map(|image| image.name.value.as_str())
    }
}

const TABLES: [&str; 6] = ["project", "defaults", "images", "builders", "registries", "plugins"];

pub(super) struct Reader<'a> {
    pub(super) decoder: Decoder,
    pub(super) project: &'a mut Project,
    pub(super) role: ProjectRole,
}

impl Reader<'_> {
    fn file(&mut self, node: &Node) {
        let Some(entries) = self.decoder.mapping(node, "the file") else { return };
        for Entry { key, value } in entries {
            match key.value.as_str() {
                "project" => self.project_table(value),
                "defaults" => self.defaults(value),
                "images" if self.role == ProjectRole::Project => self.images(value),
                "images" => {
                    let refusal = Refusal::new("images belong to a project")
                        .hint(format!("move them to `{PROJECT_FILE}` of the project"));
                    self.decoder.refuse_key("config.toml", key, refusal);
                }
                "builders" => self.builders(value),
                "registries" => self.registries(value),
                "plugins" => self.plugins(value),
                "approved" if self.role == ProjectRole::User => self.approved(value),
                "approved" => {
                    let refusal = Refusal::new("a project cannot approve its own plugins")
                        .hint("`imagespec plugin add NAME` in the project writes it to your own config");
                    self.decoder.refuse_key(PROJECT_FILE, key, refusal);
                }
                _ if crate::spec::field::find(&key.value).is_some() => self.decoder.unknown_key(
                    key,
                    None,
                    None,
                    "fields of a spec stand under `[defaults]` or `[images.NAME]`",
                ),
                _ => {
                    let suggestion = suggestion::closest(&key.value, TABLES);
                    let tables =
                        "the tables are `project`, `defaults`, `images`, `builders`, `registries` and `plugins`";
                    self.decoder.unknown_key(key, None, suggestion, tables);
                }
            }
        }
    }

    fn project_table(&mut self, node: &Node) {
        let Some(entries) = self.decoder.mapping(node, "`project`") else { return };
        for Entry { key, value } in entries {
            match key.value.as_str() {
                "builder" => self.project.builder = self.text("project.builder", value, check::builder_name),
                "registry" => self.project.registry = self.text("project.registry", value, check::registry),
                "debian_mirror" => {
                    self.project.debian_mirror = self.text("project.debian_mirror", value, check::mirror_url);
                }
                _ => {
                    let suggestion = suggestion::closest(&key.value, ["builder", "registry", "debian_mirror"]);
                    let known = "the keys are `builder`, `registry` and `debian_mirror`";
                    self.decoder.unknown_key(key, Some("project"), suggestion, known);
                }
            }
        }
    }

    fn defaults(&mut self, node: &Node) {
        let Some(entries) = self.decoder.mapping(node, "`defaults`") else { return };
        for Entry { key, .. } in entries {
            let refusal = match key.value.as_str() {
                "name" => Refusal::new("two images cannot have the same name")
                    .hint("write it in the spec, or name the image by `[images.NAME]`"),
                "builder" | "registry" => Refusal::new("it is weaker than what a spec says")
                    .hint(format!("move it to `[project]`, as `{} = …`", key.value)),
                _ => continue,
            };
            self.decoder.refuse_key("defaults", key, refusal);
        }
        self.decoder.spec(node, "`defaults`");
        self.project.defaults = Some(node.clone());
    }

    fn images(&mut self, node: &Node) {
        let Some(images) = self.decoder.mapping(node, "`images`") else { return };
        for Entry { key, value } in images {
            let what = format!("images.{}", error::shorten(&key.value));
            if let Err(refusal) = check::image_name(&key.value) {
                self.decoder.refuse_key("images", key, refusal);
                continue;
            }
            let Some(entries) = self.decoder.mapping(value, &format!("`{what}`")) else { continue };
            let mut image = Image { name: key.clone(), spec: None, builder: None, fields: value.clone() };
            let mut fields = Vec::new();
            for entry in entries {
                match entry.key.value.as_str() {
                    "spec" => {
                        let spec = self.text(&format!("{what}.spec"), &entry.value, spec_path);
                        image.spec = spec.map(|spec| spec.map(PathBuf::from));
                    }
                    "builder" => {
                        image.builder = self.text(&format!("{what}.builder"), &entry.value, check::builder_name);
                    }
                    _ => fields.push(entry.clone()),
                }
            }
            image.fields.value = Value::Mapping(fields);
            self.decoder.spec(&image.fields, &what);
            self.project.images.push(image);
        }
    }

    fn builders(&mut self, node: &Node) {
        let Some(builders) = self.decoder.mapping(node, "`builders`") else { return };
        for Entry { key, value } in builders {
            if let Err(refusal) = check::builder_name(&key.value) {
                self.decoder.refuse_key("builders", key, refusal);
                continue;
            }
            let what = format!("`builders.{}`", key.value);
            let Some(entries) = self.decoder.mapping(value, &what) else { continue };
            let options = entries.iter().map(|Entry { key, value }| {
                (key.value.clone(), Located { value: value.to_json(), place: value.place.clone() })
            });
            self.project.builders.insert(key.value.clone(), options.collect());
        }
    }

    fn registries(&mut self, node: &Node) {
        let Some(registries) = self.decoder.mapping(node, "`registries`") else { return };
        for Entry { key, value } in registries {
            let host = match host(&key.value) {
                Ok(host) => host,
                Err(refusal) => {
                    self.decoder.refuse_key("registries", key, refusal);
                    continue;
                }
            };
            let what = format!("registries.{}", key.value);
            let Some(entries) = self.decoder.mapping(value, &format!("`{what}`")) else { continue };
            let mut access = RegistryAccess::default();
            for entry in entries {
                match entry.key.value.as_str() {
                    "insecure" => access.insecure = self.boolean(&format!("{what}.insecure"), &entry.value),
                    "ca_bundle" => {
                        let path = self.text(&format!("{what}.ca_bundle"), &entry.value, check::one_line);
                        access.ca_bundle = path.map(|path| self.project.directory.join(path.value));
                    }
                    other => {
                        let suggestion = suggestion::closest(other, ["insecure", "ca_bundle"]);
                        let known = "the keys are `insecure` and `ca_bundle`";
                        self.decoder.unknown_key(&entry.key, Some(&what), suggestion, known);
                    }
                }
            }
            self.project.registries.insert(host, access);
        }
    }

    pub(super) fn text(
        &mut self,
        field: &str,
        node: &Node,
        check: fn(&str) -> Result<(), Refusal>,
    ) -> Option<Located<String>> {
        let Some(text) = self.decoder.scalar(node) else {
            self.decoder.wrong(field, "a text", node, format!("write `{} = \"…\"`", last(field)));
            return None;
        };
        match check::one_line(&text.value).and_then(|()| check(&text.value)) {
            Ok(()) => Some(text),
            Err(refusal) => {
                self.decoder.refuse(field, &text, refusal);
                None
            }
        }
    }

    pub(super) fn boolean(&mut self, field: &str, node: &Node) -> bool {
        match &node.value {
            Value::Scalar(Scalar { kind: ScalarKind::Boolean, text }) => text == "true",
            _ => {
                self.decoder.wrong(field, "a boolean", node, format!("write `{} = true` or `false`", last(field)));
                false
            }
        }
    }
}

fn last(field: &str) -> &str {
    field.rsplit('.').next().unwrap_or(field)
}

/// Refuses the path of a spec whose format its name does not tell.
fn spec_path(text: &str) -> Result<(), Refusal> {
    match Format::of(Path::new(text)) {
        Ok(_) => Ok(()),
        Err(error) => Err(error
            .hints
            .into_iter()
            .fold(Refusal::new("its format cannot be told"), |refusal, hint| refusal.hint(hint))),
    }
}

/// `HOST` or `HOST:PORT` as references have it.
fn host(text: &str) -> Result<String, Refusal> {
    let reference = format!("{text}/x").parse::<Reference>();
    match reference {
        Ok(reference) if reference.registry() == text || text == "index.docker.io" => {
            Ok(reference.registry().to_owned())
        }
        _ => Err(Refusal::new("it is not `HOST` or `HOST:PORT`")
            .hint("write the registry alone, as in `[registries.\"localhost:5000\"]`")),
    }
}
