//! The specs whose images are compared, with the files that they read.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use imagespec_tests::{
    CondaChannel, CondaPackage, CondaPython, DockerRegistry, Engine, Program, TestEnv, network_variables,
};

/// A spec in a folder of its own.
pub(crate) struct Case {
    /// The folder's name.
    pub(crate) name: &'static str,
    /// Where it is compared each time.
    pub(crate) place: Where,
    /// Whether its image has a Python.
    pub(crate) program: Program,
    /// What its container is told to run, and prints; nothing where it has no program.
    pub(crate) runs: Option<(&'static [&'static str], &'static str)>,
    /// Writes `NAME/imagespec.yaml` and what it names. The engine may help.
    pub(crate) write: fn(&Place, &Engine, &Path),
}

/// In which engines a case is compared each time. `tests/slow` compares it in the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Where {
    /// In an old one and in a new one.
    All,
    /// In an old one.
    Older,
    /// In none.
    None,
}

/// What the images are made from.
pub(crate) struct Place {
    pub(crate) env: TestEnv,
    pub(crate) registry: DockerRegistry,
}

/// Each spec asks for something that the others do not.
pub(crate) const CASES: [Case; 12] = [
    Case {
        name: "quickstart",
        place: Where::None,
        program: Program::Python,
        runs: Some((&[], "mean age 11.5\n")),
        write: |_, _, folder| {
            let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/quickstart");
            for file in ["imagespec.yaml", "report.py"] {
                fs::copy(example.join(file), folder.join(file)).unwrap();
            }
        },
    },
    Case {
        name: "files-on-scratch",
        place: Where::All,
        program: Program::Absent,
        runs: None,
        write: |_, _, folder| {
            spec(folder, "base_image: scratch\nsource_root: src\nsource_copy_mode: all\ncopy: [data]\n");
            files(folder);
        },
    },
    Case {
        name: "files",
        place: Where::None,
        program: Program::Python,
        runs: Some((&["sh", "-c", "data/run && cat data/latest"], "ran\ntext\n")),
        write: |_, _, folder| {
            spec(folder, "python_version: 3.11\nsource_root: src\ncopy: [data]\n");
            files(folder);
        },
    },
    Case {
        name: "debian-packages-and-commands",
        place: Where::Older,
        program: Program::Python,
        runs: Some((
            &["sh", "-c", "cat /srv/made /srv/secret && file --brief /etc/hostname"],
            "made in /root\n8 bytes\nASCII text\n",
        )),
        write: |_, _, folder| {
            spec(
                folder,
                r#"python_version: 3.11
apt_packages: [file, libgomp1]
env: {WHO: made}
commands:
  - echo "$WHO in $PWD" > /srv/made
  - 'chmod 640 /srv/made; chown 7:8 /srv/made; ln -s made "/srv/a link"; mkdir -m 1777 /srv/wide; touch /tmp/gone'
  - 'printf ''it''"''"''s $HOME \\ "quoted"\n'' > ''/srv/na me'''
  - wc -c < /run/token | sed 's/$/ bytes/' > /srv/secret
secrets: [{id: token, target: /run/token}]
"#,
            );
        },
    },
    Case {
        name: "hostile-values",
        place: Where::All,
        program: Program::Python,
        runs: Some((
            &["$HOME", "a b", ""],
            "['two words', '$HOME', \"it's\", '\"', '\\\\', '\\\\n', '#', 'größe', '', '$HOME', 'a b', ''] /srv/a b 1000 1000\n",
        )),
        write: |_, _, folder| {
            spec(
                folder,
                r#"python_version: 3.11
copy: [look.py]
user: 1000:1000
workdir: /srv/a b
env:
  PLAIN: value
  DOLLARS: '$HOME ${HOME} $$ $(id) `id`'
  QUOTES: 'it''s "quoted"'
  BACKSLASHES: '\ \\ \n \" C:\dir\'
  COMMENT: '# none'
  SPACES: '  a  b  '
  EMPTY: ''
  UNICODE: größe 大 🦀
  EQUALS: a=b=c
  OTHER: ${PLAIN}
labels: {plain: value, hostile.one: '$HOME "it''s" \ # `id`', empty: '', unicode: größe 大}
entrypoint: [python, /root/look.py, two words, $HOME, it's, '"', '\', '\n', '#', größe, '']
cmd: [default, '$(id)']
"#,
            );
            let look = "import os, sys\nprint(sys.argv[1:], os.getcwd(), os.getuid(), os.getgid())\n";
            fs::write(folder.join("look.py"), look).unwrap();
        },
    },
    Case {
        name: "requirements-with-hashes",
        place: Where::Older,
        program: Program::Python,
        runs: Some((&["python", "-c", "import idna, six; print(idna.__version__, six.__version__)"], "3.10 1.16.0\n")),
        write: |_, _, folder| {
            spec(folder, "python_version: 3.11\nrequirements: requirements.txt\n");
            let idna = "idna==3.10 --hash=sha256:946d195a0d259cbba61165e88e65941f16e9b36ea6ddb97f00452bae8b1287d3 \
                        --hash=sha256:12f65c9b470abda6dc35cf8e63cc574b1c52b11df2c86030af0ac09b01b13ea9\n";
            fs::write(folder.join("requirements.txt"), format!("-c constraints.txt\n-r more/six.txt\n{idna}")).unwrap();
            fs::write(folder.join("constraints.txt"), "idna<4\nsix==1.16.0\nnumpy<2\n").unwrap();
            fs::create_dir(folder.join("more")).unwrap();
            let six = "six==1.16.0 --hash=sha256:8abb2f1d86890a2dfb989f9a77cfcfd3e47c2a354b01111771326f8aa26e0254\n";
            fs::write(folder.join("more/six.txt"), six).unwrap();
        },
    },
    Case {
        name: "lock-file",
        place: Where::None,
        program: Program::Python,
        runs: Some((&["python", "-m", "look"], "3.20\n")),
        write: |_, _, folder| {
            spec(folder, "python_version: 3.11\nrequirements: uv.lock\ncopy: [look.py]\n");
            locks(folder, &["uv.lock", "pyproject.toml"]);
        },
    },
    Case {
        name: "pylock",
        place: Where::Older,
        program: Program::Python,
        runs: Some((&["python", "-m", "look"], "3.20\n")),
        write: |_, _, folder| {
            spec(folder, "python_version: 3.11\nrequirements: pylock.toml\ncopy: [look.py]\n");
            locks(folder, &["pylock.toml"]);
        },
    },
    Case {
        name: "spec-on-a-spec",
        place: Where::Older,
        program: Program::Python,
        runs: Some((&[], "beneath above changed 3.10 1.16.0\n")),
        write: |_, _, folder| {
            spec(
                folder,
                "base_image: base.yaml\npackages: [six==1.16.0]\ncopy: [above.py]\nenv: {WHAT: changed}\n\
                 commands: ['cat beneath.txt > /srv/above']\nentrypoint: [python, above.py]\n",
            );
            let base = "name: base\npython_version: 3.11\npackages: [idna==3.10]\ncopy: [beneath.txt]\n\
                        env: {WHAT: first, KEPT: above}\ncommands: [mkdir /srv/made]\nentrypoint: [python]\ncmd: [none]\n";
            fs::write(folder.join("base.yaml"), base).unwrap();
            fs::write(folder.join("beneath.txt"), "beneath").unwrap();
            let above = "import idna, os, six\nprint(open('/srv/above').read(), os.environ['KEPT'], os.environ['WHAT'], \
                         idna.__version__, six.__version__)\n";
            fs::write(folder.join("above.py"), above).unwrap();
        },
    },
    Case {
        name: "base-in-a-registry",
        place: Where::All,
        program: Program::Python,
        // Its entry point is the base's.
        runs: Some((&["told"], "app from the base 3.10 told\n")),
        write: |place, engine, folder| {
            let base = push_base(place, engine);
            spec(folder, &format!("base_image: {base}\npackages: [idna==3.10]\ncommands: ['id -u > /srv/who']\n"));
        },
    },
    Case {
        name: "conda",
        place: Where::None,
        program: Program::Python,
        runs: Some((&["python", "-c", "import greet, idna; print(greet.HELLO, idna.__version__)"], "conda 3.10\n")),
        write: |_, _, folder| {
            let python = CondaPython::made_in(Path::new(env!("CARGO_TARGET_TMPDIR")));
            let mut channel = CondaChannel::new(&folder.join("channel"));
            channel.add(&python.package("linux-64"));
            let greet = CondaPackage::new("greet", "1.5", "noarch").depends("python >=3.8");
            channel.add(&greet.file("site-packages/greet/__init__.py", "HELLO = 'conda'\n"));
            spec(
                folder,
                "base_image: bootstrap:debian/bookworm\npython_version: 3.11\nconda_packages: [greet]\n\
                 conda_channels: [./channel]\npackages: [idna==3.10]\nenv: {LD_LIBRARY_PATH: /opt/venv/lib}\n",
            );
        },
    },
    Case {
        name: "packages-at-the-start",
        place: Where::None,
        program: Program::Python,
        runs: Some((&["python", "-c", "import idna; print(idna.__version__)"], "3.10\n")),
        write: |_, _, folder| {
            spec(folder, "python_version: 3.11\npackages: [idna==3.10]\nruntime_packages: [idna]\n");
        },
    },
];

fn spec(folder: &Path, fields: &str) {
    let name = folder.file_name().unwrap().to_str().unwrap();
    fs::write(folder.join("imagespec.yaml"), format!("name: {name}\n{fields}")).unwrap();
}

fn locks(folder: &Path, names: &[&str]) {
    let locks = Path::new(env!("CARGO_MANIFEST_DIR")).join("locks");
    for name in names {
        fs::copy(locks.join(name), folder.join(name)).unwrap();
    }
    fs::write(folder.join("look.py"), "import idna\nprint(idna.__version__)\n").unwrap();
}

/// Files of every kind.
fn files(folder: &Path) {
    let write = |path: &str, text: &str, mode: u32| {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    write("data/deep/file.txt", "text\n", 0o640);
    write("data/run", "#!/bin/sh\necho ran\n", 0o700);
    write("data/.hidden", "", 0o600);
    write("data/a b $HOME 'q' \"r\" \\ # größe", "name\n", 0o644);
    write("data/*.glob", "", 0o644);
    write("data/-dash", "", 0o444);
    write("src/app/__init__.py", "", 0o644);
    write("src/app/data.json", "{}\n", 0o666);
    write("src/.dockerignore", "nothing\n", 0o644);
    write("src/skip/kept.py", "", 0o644);
    fs::create_dir_all(folder.join("data/empty/deeper")).unwrap();
    fs::set_permissions(folder.join("data/empty"), fs::Permissions::from_mode(0o700)).unwrap();
    symlink("deep/file.txt", folder.join("data/latest")).unwrap();
    symlink("deep", folder.join("data/folder")).unwrap();
}

/// A base with settings of its own, made by Docker, in a registry that asks for a password. Returns its name.
fn push_base(place: &Place, engine: &Engine) -> String {
    let Place { env, registry } = place;
    env.write("base/imagespec.yaml", "name: base\nbase_image: bootstrap:debian/bookworm\napt_packages: [python3]\n");
    let host = engine.host();
    let built = env.run_online(&["build", "base/imagespec.yaml", "--output", "type=docker"], &[("DOCKER_HOST", &host)]);
    assert_eq!(built.code, 0, "{}", built.stderr);
    let made = built.stdout.trim().split('@').next().unwrap();
    let container = engine.docker(&["create", made, "true"]);
    let archive = env.path().join("base.tar").display().to_string();
    engine.docker(&["export", "--output", &archive, container.trim()]);
    engine.docker(&["rm", container.trim()]);
    engine.docker(&["import", &archive, "imported"]);
    fs::create_dir(env.path().join("context")).unwrap();
    let steps = r#"FROM imported
RUN useradd --uid 4242 --create-home app && mkdir /srv/tools && echo '#!/bin/sh\necho tool' > /srv/tools/tool && chmod 755 /srv/tools/tool
ENV PATH=/srv/tools:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin FROM="the base" PYTHONPATH=/srv/modules
LABEL base=yes
EXPOSE 8080
VOLUME /srv/volume
STOPSIGNAL SIGINT
WORKDIR /srv
USER app
ENTRYPOINT ["/bin/sh", "-c", "echo $(id -un) from $FROM $(python -c 'import idna; print(idna.__version__)') $0"]
CMD ["nothing"]
"#;
    fs::write(env.path().join("context/Dockerfile"), steps).unwrap();
    let name = format!("{}/team/base:1", registry.host());
    engine.docker(&["build", "--network", "none", "--tag", &name, &env.path().join("context").display().to_string()]);
    engine.log_in(registry);
    engine.docker(&["push", &name]);
    engine.docker(&["image", "rm", &name, "imported", made]);
    name
}

impl Place {
    /// The variables that the program has when it builds with an engine.
    pub(crate) fn variables(&self, engine: &Engine) -> Vec<(String, String)> {
        let mut variables = network_variables();
        let config = self.registry.config();
        let folder = config.parent().unwrap().display().to_string();
        let own = [("DOCKER_HOST", engine.host()), ("DOCKER_CONFIG", folder), ("TOKEN", "12345678".to_owned())];
        variables.extend(own.map(|(name, value)| (name.to_owned(), value)));
        variables
    }
}
