"""What is learned from: files as people have them."""

import gzip

import pytest

from inkwash.errors import UserError
from inkwash.systems.language.data import linearize_mr, mentions, parse_mr, read_corpus, split_corpus
from inkwash.systems.language.train_classifier import field_labels, field_values


def written(folder, name, text):
    file = folder / name
    file.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return file


def test_a_text_file_a_sentence_a_line(tmp_path):
    corpus = read_corpus(written(tmp_path, "a.txt", "\ufeffOne.\n\n  Two!  \n"))
    assert corpus.texts == ["One.", "Two!"] and corpus.sources == ["", ""]


def test_pairs(tmp_path):
    corpus = read_corpus(written(tmp_path, "a.csv.gz", 'source,target\n"hello, you",你好\nnothing,\n'))
    assert corpus.texts == ["你好"] and corpus.sources == ["hello, you"]


def test_fields(tmp_path):
    corpus = read_corpus(written(tmp_path, "a.tsv", "rating\ttext\n5\tGood.\n\tWell.\n"))
    assert corpus.texts == ["Good.", "Well."] and corpus.fields == [{"rating": "5"}, {}]


@pytest.mark.parametrize(
    "text",
    [
        'text, mood\n"Well, go.", glad\nRun!, sad\n',
        "mood;text\nglad;Well, go.\n\nsad;Run!\n;\n",
        "\ufeffmood\ttext\nglad\tWell, go.\nsad\tRun!\n",
        ',text,mood\n0,"Well, go.",glad\n1,Run!,sad\n',  # row numbers, as pandas writes them
    ],
)
def test_a_table_as_a_program_wrote_it(tmp_path, text):
    corpus = read_corpus(written(tmp_path, "A.CSV", text))
    assert corpus.texts == ["Well, go.", "Run!"] and corpus.fields == [{"mood": "glad"}, {"mood": "sad"}]


def test_a_cell_of_two_lines(tmp_path):
    """As two of the E2E challenge are."""
    corpus = read_corpus(written(tmp_path, "a.csv", 'text,mood\r\n"The sun\r\n is hot.",good\r\n'))
    assert corpus.texts == ["The sun\r\n is hot."] and corpus.fields == [{"mood": "good"}]


def test_a_quotation_mark_in_tsv_is_a_sign_like_others(tmp_path):
    corpus = read_corpus(written(tmp_path, "a.tsv", 'source\ttarget\n"a\tb\nc\td "e"\n'))
    assert corpus.sources == ['"a', "c"] and corpus.texts == ["b", 'd "e"']


@pytest.mark.parametrize(
    ("heading", "note"),
    [
        ("source,target,style", "read a.csv: sentences: target; what they are made from: source; left out: style"),
        ("text,mood,style", "read a.csv: sentences: text; fields: mood, style"),
        (",text,mood", "read a.csv: sentences: text; fields: mood; left out: row numbers"),
    ],
)
def test_what_becomes_of_each_column(tmp_path, heading, note):
    assert read_corpus(written(tmp_path, "a.csv", f"{heading}\na,b,c\n")).note == note


def test_e2e(tmp_path):
    corpus = read_corpus(written(tmp_path, "a.csv", 'mr,ref\n"name[The Mill], food[Fast food]",The Mill has it.\n'))
    assert corpus.fields == [{"name": "The Mill", "food": "Fast food"}]
    assert (
        corpus.sources
        == ["name The Mill | food Fast food"]
        == [linearize_mr(parse_mr("name[The Mill], food[Fast food]"))]
    )


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.txt", "\n\n", "no sentence"),
        ("a.csv", "source,target\n", "no sentence"),
        ("a.csv", "x,y\n1,2\n", "the columns are x, y"),
        ("a.csv", "", "missing"),
        ("a.csv", "text,mood\nWell, the sun is hot.,good\n", r"line 2: more or fewer cells .*\(3, not 2\)"),
        ("a.csv", "text,mood\nThe sun is hot.\n", "line 2: more or fewer cells"),
        ("a.csv", 'text,mood\n"The sun,good\nThe moon,bad\n', "quotation mark that is not closed"),
        ("a.csv", 'text,mood\n"The sun,good\nThe moon",bad\n', "line 3: a cell of several lines"),
        ("a.csv", 'text,mood\n"The" sun,good\n', "line 2: .* quotation mark"),
        ("a.csv", "text,mood,mood\na,b,c\n", "two columns are called 'mood'"),
        ("a.jsonl", '{"text": "The sun is hot."}\n', "no such file is read; give .txt .*, .csv or .tsv"),
        ("a.json", "[]", "no such file is read"),
        ("a", "The sun is hot.\n", "no such file is read"),
        ("a.csv", "id,text\n" + "".join(f"{i},Go.\n" for i in range(20)), "'id' has 20 values in 20 rows"),
    ],
)
def test_an_empty_or_foreign_file_is_named(tmp_path, name, text, says):
    with pytest.raises(UserError, match=says):
        read_corpus(written(tmp_path, name, text))


def test_a_missing_or_binary_file_is_named(tmp_path):
    with pytest.raises(UserError, match="cannot read"):
        read_corpus(tmp_path / "none.txt")
    (tmp_path / "b.txt").write_bytes(b"ab\xff\xfe")
    with pytest.raises(UserError, match="not UTF-8 at byte 2"):
        read_corpus(tmp_path / "b.txt")
    (tmp_path / "d.txt.gz").write_bytes(gzip.compress(b"a sentence that is cut\n" * 99)[:-12])
    with pytest.raises(UserError, match="cannot read"):
        read_corpus(tmp_path / "d.txt.gz")
    (tmp_path / "c.txt.gz").write_bytes(b"no gzip")
    with pytest.raises(UserError, match="cannot read"):
        read_corpus(tmp_path / "c.txt.gz")


def test_a_value_is_mentioned_word_by_word():
    assert mentions("It is less than £20 a head.", "Less than £20")
    assert not mentions("It is cheaper.", "cheap")


def test_all_sentences_of_a_source_are_held_out_together(tmp_path):
    rows = "".join(f"source {i % 90},target {i}\n" for i in range(270))
    taught, held = split_corpus(read_corpus(written(tmp_path, "a.csv", "source,target\n" + rows)))
    assert set(held.sources) == {"source 39", "source 79"} and len(held) == 6
    assert not set(taught.sources) & set(held.sources) and len(taught) == 264


def test_values_said_in_other_words_are_not_learned_where_most_say_them(tmp_path):
    rows = ["Thai food.,Thai,yes", "Food from Bangkok.,Thai,yes", "It is Thai.,Thai,no", "A pub.,,no"]
    corpus = read_corpus(written(tmp_path, "a.csv", "text,food,kids\n" + "\n".join(rows) + "\n"))
    known = field_values(corpus, 2)
    assert known == {"food": ["", "Thai"], "kids": ["", "no", "yes"]}
    assert field_labels(corpus, known).tolist() == [[1, 2], [-1, 2], [1, 1], [0, 1]]
