//! A small check of SVG text, for tests: tags balance, attributes are quoted, only the entities
//! that XML knows occur, and nothing is placed outside the canvas.

pub(super) struct Element<'t> {
    name: &'t str,
    attributes: Vec<(&'t str, &'t str)>,
}

impl Element<'_> {
    pub(super) fn number(&self, attribute: &str) -> f64 {
        let value = self.attributes.iter().find(|(name, _)| *name == attribute);
        value.unwrap_or_else(|| panic!("<{}> has no {attribute}", self.name)).1.parse().unwrap()
    }

    pub(super) fn has(&self, value: &str) -> bool {
        self.attributes.iter().any(|attribute| attribute.1 == value)
    }
}

pub(super) struct Document<'t> {
    elements: Vec<Element<'t>>,
    /// What is written, unescaped, in the order of the document.
    pub(super) texts: Vec<String>,
}

impl<'t> Document<'t> {
    pub(super) fn named(&self, name: &str) -> impl Iterator<Item = &Element<'t>> {
        self.elements.iter().filter(move |element| element.name == name)
    }

    /// The background first.
    pub(super) fn rectangles(&self) -> impl Iterator<Item = &Element<'t>> {
        self.named("rect")
    }
}

/// Panics, saying where, if the text is not well-formed.
pub(super) fn check(svg: &str) -> Document<'_> {
    let mut document = Document { elements: Vec::new(), texts: Vec::new() };
    let mut open: Vec<&str> = Vec::new();
    let mut rest = svg.trim();
    while let Some((text, after)) = rest.split_once('<') {
        if open.last() == Some(&"text") {
            document.texts.push(unescape(text.trim_matches('\n')));
        } else {
            assert!(text.trim().is_empty(), "text outside <text>: {text:?}");
        }
        let (tag, after) = after.split_once('>').expect("a tag ends");
        rest = after;
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "near </{name}>");
            assert!(!open.is_empty() || rest.trim().is_empty(), "more than one root");
            // The text before a closing tag was taken above, that after it belongs to the parent.
            continue;
        }
        let (tag, empty) = tag.strip_suffix('/').map_or((tag, false), |tag| (tag, true));
        let element = element(tag);
        if !empty {
            open.push(element.name);
        }
        document.elements.push(element);
    }
    assert!(rest.is_empty() && open.is_empty(), "left open: {open:?}, left over: {rest:?}");
    check_canvas(&document);
    document
}

fn element(tag: &str) -> Element<'_> {
    let (name, mut rest) = tag.split_once(' ').unwrap_or((tag, ""));
    assert!(name.chars().all(char::is_alphanumeric) && !name.is_empty(), "<{tag}>");
    let mut attributes = Vec::new();
    while !rest.trim().is_empty() {
        let (key, value) = rest.trim_start().split_once("=\"").expect("a quoted attribute");
        let (value, after) = value.split_once('"').expect("a closing quote");
        assert!(key.chars().all(|c| c.is_alphanumeric() || "-:".contains(c)), "{key:?} in <{tag}>");
        unescape(value);
        attributes.push((key, value));
        rest = after;
    }
    Element { name, attributes }
}

fn unescape(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        let (entity, after) = after.split_once(';').expect("an entity ends");
        plain.push_str(before);
        plain.push(match entity {
            "lt" => '<',
            "gt" => '>',
            "amp" => '&',
            "quot" => '"',
            "apos" | "#39" | "#x27" => '\'',
            _ => panic!("unknown entity &{entity};"),
        });
        rest = after;
    }
    plain.push_str(rest);
    assert!(!plain.chars().any(|c| c.is_control() && c != '\n'), "{plain:?}");
    plain
}

fn check_canvas(document: &Document<'_>) {
    let root = &document.elements[0];
    assert_eq!(root.name, "svg");
    for element in &document.elements[1..] {
        for (name, value) in &element.attributes {
            let limit = match *name {
                "x" | "x1" | "x2" | "cx" => root.number("width"),
                "y" | "y1" | "y2" | "cy" => root.number("height"),
                _ => continue,
            };
            let position: f64 = value.parse().unwrap();
            assert!((0.0..=limit).contains(&position), "<{}> {name}={value}", element.name);
        }
    }
}
