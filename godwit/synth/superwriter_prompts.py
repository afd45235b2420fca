"""What the agents of `pipelines/superwriter` are asked, in our own words; each is filled in by `ask.fill`."""

TASK = """\
This is what was asked for:

<instruction>
{instruction}
</instruction>
"""
NOTES = """
The notes so far:

<notes>
{brainstorm}
</notes>
"""
THINK = (
    TASK
    + """
Before anything is written, think it through on four points, and write down your thoughts under these headings:
1. Purpose and kind: what the text is for, who reads it, what kind of text that makes it.
2. Key points and structure: what must be in it, in which order, how it begins and ends.
3. Characters and plot: people, places, events and their course; for texts without them, examples and evidence.
4. Form: language, tone, headings, length, anything the instruction demands of it.
Be concrete. Write in the language of the instruction. Do not begin the text itself."""
)
COMMENT = (
    TASK
    + NOTES
    + """
You are a critical colleague. Ask at least two concrete questions that these notes leave open or that would make the
text better, and give a suggestion with each. Write in the language of the instruction."""
)
REVISE = (
    TASK
    + NOTES
    + """
A colleague has this to say about them:

<comment>
{comment}
</comment>

Answer the questions for yourself and revise the notes: keep what is good, work in what helps. Write the whole of the
new notes, under the same headings, and nothing else."""
)
OUTLINE_RULES = """
Give it a title and at most {paragraphs} paragraphs, in order. For each say what it brings, in a few sentences, and how
many words it shall have; together they must have the length that was asked for, and no more than {words} words."""
OUTLINE = (
    TASK
    + NOTES
    + """
Make an outline of the text from these notes."""
    + OUTLINE_RULES
)
CHECK_OUTLINE = (
    TASK
    + NOTES
    + """
An outline was made of them:

<outline>
{outline}
</outline>

The rules for it were: at most {paragraphs} paragraphs, at most {words} words in all, the length that was asked for.
Check it against the rules, the instruction and the notes. Say what is missing, out of place, twice there or wrongly
weighed, and how to mend it."""
)
REVISE_OUTLINE = (
    TASK
    + NOTES
    + """
An outline was made of them:

<outline>
{outline}
</outline>

A checker says:

<check>
{check}
</check>

Write the outline anew, mended where the checker is right."""
    + OUTLINE_RULES
)
EXTRACT = """\
Here is the outline of a text.

<outline>
{outline}
</outline>

Write it as JSON in this form and nothing else, with all that it says of each paragraph as its content:
{{"title": "...", "paragraphs": [{{"content": "...", "word_count": 400}}, ...]}}"""
PARAGRAPH = (
    TASK
    + NOTES
    + """
The outline:

<outline>
{outline}
</outline>

What stands right before:

<before>
{before}
</before>

Paragraph {number} comes next: {content} ({words} words)
"""
)
THINK_PARAGRAPH = (
    PARAGRAPH
    + """
Think how to write it: its purpose, its structure, how it leads over from what is before, which details it needs, its
style and its form. Do not write it yet."""
)
WRITE_PARAGRAPH = (
    PARAGRAPH
    + """
Your thoughts on it:

<thoughts>
{thought}
</thoughts>

Now write it, this paragraph alone, with about {words} words, in the language of the instruction. Put $$ before it and
$$ behind it, and nothing else around it."""
)
WHOLE = (
    TASK
    + """
This is the text as it is by now:

<text>
{text}
</text>

Its paragraph {number}:

<paragraph>
{paragraph}
</paragraph>
"""
)
CHECK_PARAGRAPH = (
    WHOLE
    + """
Check this paragraph with the whole in mind: its logic, whether something is missing, how it holds together with the
rest. Make at least two suggestions that would make it better; only if it can be bettered in no way, pass it.

Answer with JSON in this form and nothing else:
{{"passed": false, "suggestions": ["...", "..."]}}"""
)
EDIT = (
    WHOLE
    + """
A checker suggests:
{suggestions}

Write this paragraph anew with what is good in that, so that it fits the rest and has about the same length. Put $$
before it and $$ behind it, and nothing else around it."""
)
