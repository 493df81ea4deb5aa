//! The files about images that a build writes beside them: `--iidfile` and `--metadata-file`.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use imagespec_core::diagnostic::Diagnostic;
use imagespec_core::digest::Digest;
use imagespec_core::reference::Reference;
use imagespec_core::report::Report;
use rustix::fs::{Access, access};
use serde_json::{Value, json};

use crate::arguments::BuildArguments;
use crate::failure::Failure;

/// What is to be written about the images of one build.
pub(crate) struct Documents<'a> {
    digest_file: Option<&'a PathBuf>,
    report_file: Option<&'a PathBuf>,
    image_count: usize,
    /// The reports of the images that are there so far.
    reports: Vec<Value>,
}

impl<'a> Documents<'a> {
    /// Finds out before any work whether the files can be written.
    pub(crate) fn new(arguments: &'a BuildArguments, image_count: usize) -> Result<Self, Failure> {
        let (digest_file, report_file) = (arguments.iidfile.as_ref(), arguments.metadata_file.as_ref());
        if digest_file.is_some() && image_count > 1 {
            return Err(Failure::usage(
                format!("`--iidfile` holds the digest of one image, and {image_count} are built"),
                "use `--metadata-file`, which lists them all",
            ));
        }
        digest_file.into_iter().chain(report_file).try_for_each(|file| check(file))?;
        Ok(Self { digest_file, report_file, image_count, reports: Vec::new() })
    }

    /// The files, in the order of the flags.
    pub(crate) fn files(&self) -> impl Iterator<Item = &'a PathBuf> {
        self.digest_file.into_iter().chain(self.report_file)
    }

    /// Whether a report is to be written.
    pub(crate) fn wants_report(&self) -> bool {
        self.report_file.is_some()
    }

    /// Writes what there is to say of one more image.
    pub(crate) fn write(&mut self, name: &Reference, digest: Digest, report: Option<&Report>) -> Result<(), Failure> {
        if let Some(file) = self.digest_file {
            write(file, &digest.to_string())?;
        }
        let (Some(file), Some(report)) = (self.report_file, report) else { return Ok(()) };
        let tag = name.tag().unwrap_or_default();
        let mut document = json!({ "name": name.familiar().trim_end_matches(&format!(":{tag}")), "tag": tag });
        let report = serde_json::to_value(report).expect("a report has only string keys");
        let fields = report.as_object().cloned().unwrap_or_default();
        document.as_object_mut().expect("it was made as an object").extend(fields);
        self.reports.push(document);
        // After each image, so that a later one that fails takes nothing away.
        let text = match self.reports.as_slice() {
            [only] if self.image_count == 1 => serde_json::to_string_pretty(only),
            all => serde_json::to_string_pretty(all),
        };
        write(file, &text.expect("a report has only string keys"))
    }
}

fn check(file: &Path) -> Result<(), Failure> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let refused = |error: io::Error| {
        let mut diagnostic = Diagnostic::error(format!("cannot write `{}`", file.display()));
        diagnostic.notes.push(error.to_string());
        diagnostic
    };
    let result = match fs::metadata(file) {
        Ok(metadata) if metadata.is_dir() => {
            let diagnostic = Diagnostic::error(format!("cannot write `{}`: it is a folder", file.display()));
            return Err(Failure::new(diagnostic.hint("name a file")));
        }
        Ok(metadata) if metadata.is_file() => OpenOptions::new().write(true).open(file).map(drop),
        // To open a pipe would wait for its reader.
        Ok(_) => Ok(()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Err(error) if !folder.is_dir() => {
            let hint = format!("make the folder `{}` first", folder.display());
            return Err(Failure::new(refused(error).hint(hint)));
        }
        Err(_) => access(folder, Access::WRITE_OK).map_err(io::Error::from),
    };
    result.map_err(|error| Failure::new(refused(error)))
}

fn write(file: &Path, text: &str) -> Result<(), Failure> {
    fs::write(file, text).map_err(|error| {
        let mut diagnostic =
            Diagnostic::error(format!("the image is built, but `{}` cannot be written", file.display()));
        diagnostic.notes.push(error.to_string());
        Failure::new(diagnostic)
    })
}
