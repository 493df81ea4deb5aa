//! One spec that asks for everything at once, and all that it reads.

use std::path::Path;

use crate::{CondaChannel, CondaPackage, CondaPython, FolderServer, TestEnv, outsider, repository};

const PROGRAM: &str = "import os, demo, docopt, greet, idna
lines = [greet.HELLO, demo.WHAT, docopt.__version__, open('/srv/secret').read().strip(), str(os.getuid())]
print(*lines, open('/root/data/labels.csv').read().strip())
";

/// What its program prints, when the secret `token` is `canary-Vb7Qm`.
pub const EVERYTHING_PRINTS: &str = "conda git 0.6.2 f8e4d5c2 1000 a,b\n";

/// Writes `app.yaml` and all that it reads. What serves its repository must live as long as it is built; a step of the build
/// sees this machine as `machine`. `folder` is for what takes long to make, and is kept.
pub fn everything(env: &TestEnv, folder: &Path, machine: &str) -> FolderServer {
    let python = CondaPython::made_in(folder);
    outsider("cp", &["-r", &python.base.display().to_string(), &env.path().join("base").display().to_string()]);
    let mut channel = CondaChannel::new(&env.path().join("channel"));
    channel.add(&python.package("linux-64"));
    let hello = CondaPackage::new("greet", "1.5", "noarch").depends("python >=3.8");
    channel.add(&hello.file("site-packages/greet/__init__.py", "HELLO = 'conda'\n"));

    let served = env.path().join("served");
    let project = "[build-system]\nrequires = ['setuptools']\nbuild-backend = 'setuptools.build_meta'\n[project]\nname = 'demo'\nversion = '1'\n";
    let files = [("packages/demo/pyproject.toml", project), ("packages/demo/demo/__init__.py", "WHAT = 'git'\n")];
    let commit = repository(&served, "demo", &files);
    let server = FolderServer::start(&served, None);
    env.write(
        "app.yaml",
        &format!(
            "name: app
base_image: oci:base
platform: linux/amd64
python_version: 3.11
apt_packages: [git]
conda_packages: [greet]
conda_channels: [./channel]
packages: [idna, docopt==0.6.2, 'git+http://{}/demo.git@{commit}#subdirectory=packages/demo']
copy: [data, app.py]
commands: ['sha256sum < /run/secret | cut -c1-8 > /srv/secret']
secrets: [{{id: token, target: /run/secret}}]
env: {{LD_LIBRARY_PATH: /opt/venv/lib}}
user: 1000:1000
entrypoint: [python, /root/app.py]
",
            server.host().replace("127.0.0.1", machine)
        ),
    );
    env.write("app.py", PROGRAM);
    env.write("data/labels.csv", "a,b\n");
    server
}
