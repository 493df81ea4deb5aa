//! A conda channel in a folder, with packages of both formats and the repodata that `conda index` would make.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// The path that packages are built with, as conda-build has it.
pub const PLACEHOLDER: &str =
    "/home/conda/feedstock_root/build_artifacts/_h_env_placehold_placehold_placehold_placehold";

/// A channel that is being made.
pub struct CondaChannel {
    folder: PathBuf,
    repodata: BTreeMap<String, [Map<String, Value>; 2]>,
}

/// A package that is being made.
pub struct CondaPackage {
    name: String,
    version: String,
    build: String,
    subdir: String,
    depends: Vec<String>,
    entry_points: Vec<String>,
    files: BTreeMap<String, Member>,
    /// Names for a hostile archive: written to the archive, and listed nowhere.
    raw: Vec<(String, Member)>,
}

/// A file of a package.
#[derive(Clone)]
pub(crate) enum Member {
    File { content: Vec<u8>, mode: u32, prefix: Option<&'static str> },
    Link(String),
}

impl CondaPackage {
    /// A package for `subdir`: `linux-64`, `noarch`.
    pub fn new(name: &str, version: &str, subdir: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: version.to_owned(),
            build: "h0_0".to_owned(),
            subdir: subdir.to_owned(),
            depends: Vec::new(),
            entry_points: Vec::new(),
            files: BTreeMap::new(),
            raw: Vec::new(),
        }
    }

    /// With one more package that it depends on.
    #[must_use]
    pub fn depends(mut self, spec: &str) -> Self {
        self.depends.push(spec.to_owned());
        self
    }

    /// With a program, as `NAME = MODULE:FUNCTION`.
    #[must_use]
    pub fn entry_point(mut self, text: &str) -> Self {
        self.entry_points.push(text.to_owned());
        self
    }

    /// With a file.
    #[must_use]
    pub fn file(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        self.member(path, content, 0o644, None)
    }

    /// With a program.
    #[must_use]
    pub fn program(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        self.member(path, content, 0o755, None)
    }

    /// With a text in which [`PLACEHOLDER`] stands.
    #[must_use]
    pub fn text(self, path: &str, content: impl AsRef<[u8]>, mode: u32) -> Self {
        self.member(path, content, mode, Some("text"))
    }

    /// With a program in which [`PLACEHOLDER`] stands.
    #[must_use]
    pub fn binary(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        self.member(path, content, 0o755, Some("binary"))
    }

    /// With a symbolic link.
    #[must_use]
    pub fn link(mut self, path: &str, target: &str) -> Self {
        self.files.insert(path.to_owned(), Member::Link(target.to_owned()));
        self
    }

    /// With the files of the folder `from`, beneath `path`; links that are absolute and bytecode stay away.
    #[must_use]
    pub fn tree(mut self, path: &str, from: &Path) -> Self {
        for entry in fs::read_dir(from).expect("the folder is there") {
            let entry = entry.expect("a folder can be read");
            let name = entry.file_name().into_string().expect("names are UTF-8");
            let (path, kind) = (format!("{path}/{name}"), entry.file_type().expect("a file has a kind"));
            if kind.is_symlink() {
                let target = fs::read_link(entry.path()).expect("a link leads somewhere");
                if target.is_relative() {
                    self = self.link(&path, &target.display().to_string());
                }
            } else if kind.is_dir() && name != "__pycache__" {
                self = self.tree(&path, &entry.path());
            } else if kind.is_file() {
                self = self.file(&path, fs::read(entry.path()).expect("a file can be read"));
            }
        }
        self
    }

    /// With a symbolic link or, without a target, a file that is in the archive under a name that no package has.
    #[must_use]
    pub fn hostile(mut self, path: &str, target: Option<&str>) -> Self {
        let file = || Member::File { content: b"evil".to_vec(), mode: 0o644, prefix: None };
        let member = target.map_or_else(file, |target| Member::Link(target.to_owned()));
        self.raw.push((path.to_owned(), member));
        self
    }

    fn member(mut self, path: &str, content: impl AsRef<[u8]>, mode: u32, prefix: Option<&'static str>) -> Self {
        let content = content.as_ref().to_vec();
        self.files.insert(path.to_owned(), Member::File { content, mode, prefix });
        self
    }

    fn stem(&self) -> String {
        format!("{}-{}-{}", self.name, self.version, self.build)
    }

    fn index(&self) -> Value {
        let mut index = json!({
            "name": self.name, "version": self.version, "build": self.build, "build_number": 0,
            "depends": self.depends, "subdir": self.subdir,
        });
        if self.subdir == "noarch" {
            let kind = if self.is_pure() { "python" } else { "generic" };
            index["noarch"] = kind.into();
        }
        index
    }

    fn is_pure(&self) -> bool {
        self.subdir == "noarch" && self.files.keys().any(|path| path.starts_with("site-packages/"))
    }

    /// `info/paths.json` and `info/link.json`.
    fn info(&self) -> Vec<(String, Vec<u8>)> {
        let paths: Vec<_> = self
            .files
            .iter()
            .map(|(path, member)| match member {
                Member::Link(_) => json!({ "_path": path, "path_type": "softlink" }),
                Member::File { content, prefix, .. } => {
                    let mut entry = json!({
                        "_path": path, "path_type": "hardlink", "sha256": sha256(content), "size_in_bytes": content.len(),
                    });
                    if let Some(mode) = prefix {
                        entry["file_mode"] = (*mode).into();
                        entry["prefix_placeholder"] = PLACEHOLDER.into();
                    }
                    entry
                }
            })
            .collect();
        let mut info = vec![
            ("info/index.json".to_owned(), self.index().to_string().into_bytes()),
            ("info/paths.json".to_owned(), json!({ "paths": paths, "paths_version": 1 }).to_string().into_bytes()),
        ];
        if self.is_pure() {
            let link = json!({
                "noarch": { "type": "python", "entry_points": self.entry_points }, "package_metadata_version": 1,
            });
            info.push(("info/link.json".to_owned(), link.to_string().into_bytes()));
        }
        info
    }

    /// `info/files` and `info/has_prefix`, as old packages have them.
    fn old_info(&self) -> Vec<(String, Vec<u8>)> {
        let files: Vec<_> = self.files.keys().map(String::as_str).collect();
        let prefixed = self.files.iter().filter_map(|(path, member)| match member {
            Member::File { prefix: Some(mode), .. } => Some(format!("{PLACEHOLDER} {mode} {path}\n")),
            _ => None,
        });
        vec![
            ("info/index.json".to_owned(), self.index().to_string().into_bytes()),
            ("info/files".to_owned(), files.join("\n").into_bytes()),
            ("info/has_prefix".to_owned(), prefixed.collect::<String>().into_bytes()),
        ]
    }

    fn payload(&self) -> Vec<(String, Member)> {
        self.files.iter().map(|(path, member)| (path.clone(), member.clone())).chain(self.raw.clone()).collect()
    }
}

impl CondaChannel {
    /// An empty channel in `folder`.
    pub fn new(folder: &Path) -> Self {
        let mut channel = Self { folder: folder.to_owned(), repodata: BTreeMap::new() };
        channel.repodata.insert("noarch".to_owned(), Default::default());
        channel.write_repodata();
        channel
    }

    /// Adds a `.conda` package.
    pub fn add(&mut self, package: &CondaPackage) {
        let info = zstd(&tar(&[], &package.info()));
        let content = zstd(&tar(&package.payload(), &[]));
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        let stem = package.stem();
        let metadata = br#"{"conda_pkg_format_version": 2}"#.to_vec();
        for (name, content) in [
            ("metadata.json".to_owned(), metadata),
            (format!("pkg-{stem}.tar.zst"), content),
            (format!("info-{stem}.tar.zst"), info),
        ] {
            let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
            zip.start_file(name, stored).expect("a member can be begun");
            zip.write_all(&content).expect("a member can be written");
        }
        let archive = zip.finish().expect("an archive can be ended").into_inner();
        self.add_archive(package, &format!("{stem}.conda"), &archive);
    }

    /// Adds a `.tar.bz2` package, as old tools make them.
    pub fn add_old(&mut self, package: &CondaPackage) {
        let tar = tar(&package.payload(), &package.old_info());
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
        encoder.write_all(&tar).expect("memory can be written");
        let archive = encoder.finish().expect("memory can be written");
        self.add_archive(package, &format!("{}.tar.bz2", package.stem()), &archive);
    }

    /// The file of a package.
    pub fn package_path(&self, subdir: &str, file: &str) -> PathBuf {
        self.folder.join(subdir).join(file)
    }

    fn add_archive(&mut self, package: &CondaPackage, file: &str, archive: &[u8]) {
        let mut record = package.index();
        record["sha256"] = sha256(archive).into();
        record["size"] = archive.len().into();
        let maps = self.repodata.entry(package.subdir.clone()).or_default();
        maps[usize::from(file.ends_with(".conda"))].insert(file.to_owned(), record);
        fs::create_dir_all(self.folder.join(&package.subdir)).expect("a folder can be made");
        fs::write(self.folder.join(&package.subdir).join(file), archive).expect("a file can be written");
        self.write_repodata();
    }

    fn write_repodata(&self) {
        for (subdir, [old, new]) in &self.repodata {
            let repodata = json!({
                "info": { "subdir": subdir }, "packages": old, "packages.conda": new, "removed": [], "repodata_version": 1,
            });
            fs::create_dir_all(self.folder.join(subdir)).expect("a folder can be made");
            let path = self.folder.join(subdir).join("repodata.json");
            fs::write(path, repodata.to_string()).expect("a file can be written");
        }
    }
}

fn tar(members: &[(String, Member)], files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let files = files
        .iter()
        .map(|(path, content)| (path.clone(), Member::File { content: content.clone(), mode: 0o644, prefix: None }));
    for (path, member) in members.iter().cloned().chain(files) {
        let mut header = tar::Header::new_ustar();
        // The usual way in would refuse the names of hostile packages.
        let name = &mut header.as_ustar_mut().expect("it was made as one").name;
        assert!(path.len() <= name.len(), "`{path}` is too long for this maker of packages");
        name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_mtime(1_700_000_000);
        match member {
            Member::File { content, mode, .. } => {
                header.set_mode(mode);
                header.set_size(content.len() as u64);
                header.set_cksum();
                tar.append(&header, content.as_slice()).expect("memory can be written");
            }
            Member::Link(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_mode(0o777);
                header.set_size(0);
                header.set_link_name_literal(&target).expect("a target fits");
                header.set_cksum();
                tar.append(&header, std::io::empty()).expect("memory can be written");
            }
        }
    }
    tar.into_inner().expect("memory can be written")
}

fn zstd(content: &[u8]) -> Vec<u8> {
    zstd::encode_all(content, 3).expect("memory can be compressed")
}

fn sha256(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}
