//! The layers on top of one another: which links and programs an image has. Pure.

use std::collections::BTreeMap;

use super::layer::{LayerSurvey, PATH_SIZE_BYTES_MAX, Remark};
use super::program::Facts;

/// As many links as Linux follows (path_resolution(7)).
const LINKS_FOLLOWED_MAX: usize = 40;
/// Components that are passed on the way to a program, those of links included. A real one has ten.
const STEPS_MAX: usize = 4096;

/// What lies where in an image, of what was of interest. Paths have no `/` at their ends.
#[derive(Debug, Default)]
pub(super) struct Tree {
    nodes: BTreeMap<String, Node>,
}

#[derive(Debug, Clone)]
enum Node {
    Symlink(String),
    Program(Program),
}

/// A program or library.
#[derive(Debug, Clone)]
pub(super) struct Program {
    /// Whether anybody may execute it.
    pub(super) executable: bool,
    /// What its bytes say.
    pub(super) facts: Facts,
}

impl Tree {
    /// Puts a layer on top. Whiteouts hide what lower layers brought, never what their own layer brings (OCI
    /// image-spec, "Image Layer Filesystem Changeset"); so they come first, wherever they stand.
    pub(super) fn apply(&mut self, layer: &LayerSurvey) {
        for (path, remark) in layer {
            match remark {
                Remark::Removed => {
                    self.remove_below(path);
                    self.nodes.remove(path);
                }
                Remark::Emptied => self.remove_below(path),
                Remark::Symlink(_) | Remark::HardLink(_) | Remark::Program { .. } => {}
            }
        }
        for (path, remark) in layer {
            let node = match remark {
                Remark::Removed | Remark::Emptied => continue,
                Remark::Symlink(target) => Node::Symlink(target.clone()),
                Remark::Program { executable, facts } => {
                    Node::Program(Program { executable: *executable, facts: facts.clone() })
                }
                Remark::HardLink(target) => match self.nodes.get(target) {
                    Some(node) => node.clone(),
                    None => continue,
                },
            };
            self.make_way(path);
            self.remove_below(path);
            self.nodes.insert(path.clone(), node);
        }
    }

    /// The program at `path` and its true path, links followed inside of the tree.
    pub(super) fn program(&self, path: &str) -> Option<(String, &Program)> {
        let mut ahead: Vec<String> = components(path);
        let mut behind: Vec<String> = Vec::new();
        let mut followed = 0;
        let (mut behind_bytes, mut steps) = (0, 0);
        while let Some(component) = ahead.pop() {
            steps += 1;
            if steps > STEPS_MAX || behind_bytes > PATH_SIZE_BYTES_MAX {
                return None;
            }
            if component == ".." {
                behind_bytes -= behind.pop().map_or(0, |last| last.len() + 1);
                continue;
            }
            behind_bytes += component.len() + 1;
            behind.push(component);
            if let Some(Node::Symlink(target)) = self.nodes.get(&behind.join("/")) {
                followed += 1;
                if followed > LINKS_FOLLOWED_MAX {
                    return None;
                }
                behind_bytes -= behind.pop().map_or(0, |last| last.len() + 1);
                if target.starts_with('/') {
                    behind.clear();
                    behind_bytes = 0;
                }
                ahead.extend(components(target));
            }
        }
        let path = behind.join("/");
        match self.nodes.get(&path) {
            Some(Node::Program(program)) => Some((path, program)),
            _ => None,
        }
    }

    /// All programs whose file name fits, with their paths.
    pub(super) fn programs<'a>(
        &'a self,
        fits: impl Fn(&str) -> bool + 'a,
    ) -> impl Iterator<Item = (&'a str, &'a Program)> {
        self.nodes.iter().filter_map(move |(path, node)| match node {
            Node::Program(program) if fits(path.rsplit('/').next().unwrap_or_default()) => {
                Some((path.as_str(), program))
            }
            _ => None,
        })
    }

    /// A folder takes the place of a link or file that stands where it must be.
    fn make_way(&mut self, path: &str) {
        for (slash, _) in path.match_indices('/') {
            self.nodes.remove(&path[..slash]);
        }
    }

    fn remove_below(&mut self, folder: &str) {
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let below = self.nodes.range(prefix.clone()..).take_while(|(path, _)| path.starts_with(&prefix));
        let gone: Vec<_> = below.map(|(path, _)| path.clone()).collect();
        for path in gone {
            self.nodes.remove(&path);
        }
    }
}

/// The components of a path, the first one last.
fn components(path: &str) -> Vec<String> {
    path.split('/').rev().filter(|component| !matches!(*component, "" | ".")).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn link(path: &str, target: &str) -> (String, Remark) {
        (path.to_owned(), Remark::Symlink(target.to_owned()))
    }

    fn program(path: &str, minor: u16) -> (String, Remark) {
        let facts = Facts { pythons: BTreeSet::from([(minor, 0)]), ..Facts::default() };
        (path.to_owned(), Remark::Program { executable: true, facts })
    }

    fn found(layers: &[LayerSurvey], path: &str) -> Option<(String, u16)> {
        let mut tree = Tree::default();
        for layer in layers {
            tree.apply(layer);
        }
        tree.program(path).map(|(path, program)| (path, program.facts.pythons.first().unwrap().0))
    }

    #[test]
    fn links_are_followed_inside_of_the_image() {
        let layers = [
            vec![link("bin", "usr/bin"), program("usr/bin/python3.11", 11)],
            vec![
                link("usr/bin/python3", "/etc/alternatives/py"),
                link("etc/alternatives/py", "../../../usr/bin/python3.11"),
            ],
        ];
        assert_eq!(found(&layers, "/bin/python3"), Some(("usr/bin/python3.11".to_owned(), 11)));
        assert_eq!(found(&[vec![link("a", "b"), link("b", "a")]], "a"), None);
    }

    #[test]
    fn upper_layers_hide_what_lower_ones_have() {
        let lower = vec![program("opt/py/bin/python3", 8), program("usr/bin/python3", 11)];
        let gone = (".".to_owned(), Remark::Removed);
        assert_eq!(found(&[lower.clone(), vec![("opt".to_owned(), Remark::Removed)]], "opt/py/bin/python3"), None);
        assert_eq!(found(&[lower.clone(), vec![gone]], "usr/bin/python3").map(|found| found.1), Some(11));
        let emptied = vec![program("opt/py/bin/python3", 12), ("opt/py".to_owned(), Remark::Emptied)];
        assert_eq!(found(&[lower.clone(), emptied], "opt/py/bin/python3").map(|found| found.1), Some(12));
        let replaced = vec![link("usr", "opt/py")];
        assert_eq!(found(&[lower, replaced], "usr/bin/python3").map(|found| found.1), Some(8));
    }

    /// Each of these took minutes or more.
    #[test]
    fn hostile_links_end_at_once() {
        let deep = vec![link("usr/bin/python3", &"a/".repeat(500_000))];
        assert_eq!(found(&[deep], "usr/bin/python3"), None);
        let target = "a/".repeat(2047);
        let circle: Vec<_> = (0..2047).map(|depth| link(&"a/".repeat(depth + 1)[..2 * depth + 1], &target)).collect();
        assert_eq!(found(&[circle], "a"), None);
        let mut layer: Vec<_> = (0..50_000).map(|index| link(&format!("folder/{index}"), "nowhere")).collect();
        layer.extend((0..50_000).map(|_| (String::new(), Remark::Emptied)));
        layer.push(program("usr/bin/python3", 11));
        assert_eq!(found(&[layer], "usr/bin/python3").map(|found| found.1), Some(11));
    }

    #[test]
    fn a_hard_link_is_what_it_links_to() {
        let layers =
            [vec![program("a/python3.9", 9), ("b/python".to_owned(), Remark::HardLink("a/python3.9".to_owned()))]];
        assert_eq!(found(&layers, "b/python"), Some(("b/python".to_owned(), 9)));
    }
}
