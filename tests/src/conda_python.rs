//! A Python for conda channels: Debian's, moved to another prefix.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::conda::{CondaPackage, PLACEHOLDER};
use crate::environment::{TestEnv, outsider};
use crate::registry::output;

/// Says where it lies, in its bytes.
const WHERE: &str =
    "#include <stdio.h>\nstatic const char prefix[] = PREFIX;\nint main(void) { puts(prefix); return 0; }\n";

/// What channels are made of.
pub struct CondaPython {
    /// An OCI layout: a Debian without Python.
    pub base: PathBuf,
    /// A program with the placeholder in it, which prints it.
    pub program: Vec<u8>,
    /// `usr` of a Debian with Python.
    pub usr: PathBuf,
}

impl CondaPython {
    /// Made once in `folder` for all processes, and kept from one run to the next: what is tested stands on it.
    pub fn made_in(folder: &Path) -> Self {
        let folder = folder.join("conda");
        fs::create_dir_all(&folder).expect("a folder can be made");
        let lock = fs::File::create(folder.join("lock")).expect("a file can be written");
        lock.lock().expect("a file can be locked");
        let made = folder.join("made");
        if !made.exists() {
            let aside = folder.join("aside");
            fs::remove_dir_all(&aside).ok();
            fs::create_dir(&aside).expect("a folder can be made");
            make(&aside);
            fs::rename(&aside, &made).expect("a folder can be renamed");
        }
        let program = fs::read(made.join("where")).expect("it was compiled");
        Self { base: made.join("base"), usr: made.join("bundle/rootfs/usr"), program }
    }

    /// Python 3.11.2 as a package: relocatable, since it looks for its modules beside itself.
    pub fn package(&self, subdir: &str) -> CondaPackage {
        let usr = &self.usr;
        let libraries = fs::read_dir(usr.join("lib/x86_64-linux-gnu")).expect("a Debian has libraries");
        let expat = libraries
            .flatten()
            .find(|entry| entry.file_name().to_string_lossy().starts_with("libexpat.so.1."))
            .expect("Debian's Python needs libexpat");
        let site = format!("import site\nsite.addsitedir('{PLACEHOLDER}/lib/python3.11/site-packages')\n");
        let read = |path: &Path| fs::read(path).expect("a Debian with Python has it");
        let schemes = String::from_utf8(read(&usr.join("lib/python3.11/sysconfig.py"))).expect("modules are UTF-8");
        let schemes = schemes.replace("prefix_scheme = 'posix_local'", "prefix_scheme = 'posix_prefix'");
        CondaPackage::new("python", "3.11.2", subdir)
            .program("bin/python3.11", read(&usr.join("bin/python3.11")))
            .link("bin/python3", "python3.11")
            .link("bin/python", "python3.11")
            .tree("lib/python3.11", &usr.join("lib/python3.11"))
            .file("lib/libexpat.so.1", read(&expat.path()))
            // Debian's has packages installed into folders of its own, and looks for them there.
            .file("lib/python3.11/sysconfig.py", schemes)
            .text("lib/python3.11/sitecustomize.py", site, 0o644)
    }
}

fn make(folder: &Path) {
    let env = TestEnv::new();
    env.write("base.yaml", "name: base\nbase_image: bootstrap:debian/bookworm\n");
    env.write("python.yaml", "name: python\nbase_image: bootstrap:debian/bookworm\npython_version: 3.11\n");
    for (spec, layout) in [("base.yaml", "base"), ("python.yaml", "python")] {
        let layout = folder.join(layout).display().to_string();
        let built = env.run_online(&["build", spec, "--output", &format!("type=oci,dest={layout}")], &[]);
        assert_eq!(built.code, 0, "{}", built.stderr);
        if spec == "python.yaml" {
            let tag = built.stdout.split(['@', ':']).nth(1).expect("a name has a tag");
            let bundle = folder.join("bundle").display().to_string();
            outsider("umoci", &["unpack", "--rootless", "--image", &format!("{layout}:{tag}"), &bundle]);
        }
    }
    let source = env.path().join("where.c");
    fs::write(&source, WHERE).expect("a file can be written");
    let prefix = format!("-DPREFIX=\"{PLACEHOLDER}/share\"");
    output(Command::new("cc").args(["-static", &prefix, "-o"]).arg(folder.join("where")).arg(&source));
}
