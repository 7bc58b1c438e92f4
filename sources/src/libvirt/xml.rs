//! Description of a domain, from libvirt's XML: what its metadata calls it by, its disks' aliases.

use std::collections::BTreeMap;

use roxmltree::{Document, Node, ParsingOptions};

/// Most elements and attributes that are looked at. A domain with a hundred disks has 5,000.
pub(crate) const MAX_NODES: u32 = 100_000;
/// Longest value of a label, in bytes: a region holds 1,023 for all of them.
const MAX_VALUE: usize = 200;

/// Namespaces of metadata, as they begin: their versions are behind that.
const NOVA: &str = "http://openstack.org/xmlns/libvirt/nova/";
const KUBEVIRT: &str = "http://kubevirt.io";

/// What the XML says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Description {
    /// Labels of the domain, the most important first.
    pub(super) labels: Vec<(String, String)>,
    /// Disks by their aliases.
    pub(super) disks: BTreeMap<String, String>,
    /// Interfaces that libvirt knows, with and without a name on the host.
    pub(super) nr_nets: usize,
}

impl Description {
    /// Takes libvirt's XML; what cannot be parsed says nothing.
    pub(super) fn new(xml: &str) -> Self {
        let options = ParsingOptions { nodes_limit: MAX_NODES, ..ParsingOptions::default() };
        let Ok(document) = Document::parse_with_options(xml, options) else {
            return Self::default();
        };
        let domain = document.root_element();
        let devices = child(domain, "devices").map(|devices| devices.children());
        let mut description = Self { labels: labels(domain), ..Self::default() };
        for device in devices.into_iter().flatten() {
            match device.tag_name().name() {
                "interface" => description.nr_nets = description.nr_nets.saturating_add(1),
                "disk" => {
                    let of = |tag, name| Some(child(device, tag)?.attribute(name)?.to_owned());
                    let Some((alias, disk)) = of("alias", "name").zip(of("target", "dev")) else {
                        continue;
                    };
                    description.disks.insert(alias, disk);
                }
                _ => {}
            }
        }
        description
    }
}

fn child<'d>(node: Node<'d, 'd>, name: &str) -> Option<Node<'d, 'd>> {
    node.children().find(|child| child.tag_name().name() == name)
}

/// What OpenStack and KubeVirt call the domain by.
fn labels(domain: Node<'_, '_>) -> Vec<(String, String)> {
    let mut labels = Vec::new();
    let mut add = |key: &str, value: Option<&str>| {
        let value = value.map(str::trim).filter(|value| !value.is_empty());
        let Some(value) = value else { return };
        let value: String = value.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        let cut = value.floor_char_boundary(MAX_VALUE);
        labels.push((key.to_owned(), value.get(..cut).unwrap_or_default().to_owned()));
    };
    let metadata = domain.children().find(|child| child.tag_name().name() == "metadata");
    for node in metadata.into_iter().flat_map(|metadata| metadata.children()) {
        let namespace = node.tag_name().namespace().unwrap_or_default();
        if namespace.starts_with(NOVA) {
            let of = |name: &str| node.descendants().find(|n| n.tag_name().name() == name);
            let text = |name: &str| of(name).and_then(|n| n.text());
            add("nova.name", text("name"));
            add("nova.project", text("project"));
            add("nova.project_id", of("project").and_then(|n| n.attribute("uuid")));
            add("nova.user", text("user"));
            add("nova.flavor", of("flavor").and_then(|n| n.attribute("name")));
        } else if namespace.starts_with(KUBEVIRT) {
            let name = domain.children().find(|child| child.tag_name().name() == "name");
            // KubeVirt joins a VM's namespace and name, neither of which has the separator.
            let parts = name.and_then(|name| name.text()).and_then(|name| name.split_once('_'));
            add("kubevirt.namespace", parts.map(|(namespace, _)| namespace));
            add("kubevirt.name", parts.map(|(_, name)| name));
            let uid = node.descendants().find(|n| n.tag_name().name() == "uid");
            add("kubevirt.uid", uid.and_then(|n| n.text()));
        }
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOVA_DOMAIN: &str = r#"<domain type='kvm' id='1'>
      <name>instance-00000001</name>
      <title>not a label</title>
      <metadata>
        <nova:instance xmlns:nova="http://openstack.org/xmlns/libvirt/nova/1.1">
          <nova:package version="26.1.0"/>
          <nova:name> web 1 </nova:name>
          <nova:flavor name="m1.small"><nova:memory>2048</nova:memory></nova:flavor>
          <nova:owner>
            <nova:user uuid="u1">alice</nova:user><nova:project uuid="p1">acme</nova:project>
          </nova:owner>
        </nova:instance>
        <other:thing xmlns:other="http://example.org/"><other:name>no</other:name></other:thing>
      </metadata>
      <devices>
        <disk type='file' device='disk'>
          <target dev='vdc' bus='virtio'/><alias name='virtio-disk2'/>
        </disk>
        <interface type='user'/><interface type='bridge'/>
      </devices>
    </domain>"#;

    fn pairs(description: &Description) -> Vec<(&str, &str)> {
        description.labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()
    }

    #[test]
    fn metadata_of_openstack_are_labels() {
        let description = Description::new(NOVA_DOMAIN);
        assert_eq!(
            pairs(&description),
            [
                ("nova.name", "web 1"),
                ("nova.project", "acme"),
                ("nova.project_id", "p1"),
                ("nova.user", "alice"),
                ("nova.flavor", "m1.small"),
            ]
        );
        assert_eq!(description.disks.get("virtio-disk2").map(String::as_str), Some("vdc"));
        assert_eq!(description.nr_nets, 2);
    }

    #[test]
    fn metadata_of_kubevirt_are_labels() {
        let description = Description::new(
            "<domain><name>default_testvm</name><metadata><kubevirt xmlns='http://kubevirt.io'>\
             <uid>1234</uid></kubevirt></metadata></domain>",
        );
        assert_eq!(
            pairs(&description),
            [
                ("kubevirt.namespace", "default"),
                ("kubevirt.name", "testvm"),
                ("kubevirt.uid", "1234")
            ]
        );
    }

    #[test]
    fn what_cannot_be_parsed_says_nothing() {
        assert_eq!(Description::new("<domain>"), Description::default());
        assert_eq!(Description::new(""), Description::default());
        let deep = "<a>".repeat(200_000);
        assert_eq!(Description::new(&deep), Description::default());
    }
}
