"""Prompts of LongBench-Cite, in our own words: one to ask with citations, one without, and the judge's."""

PROMPTS = {
    "cite": """Answer a question about a document. Its sentences are numbered: <C0>, <C1>, ... stand in front of them.

Write the answer as statements, each one <statement>TEXT<cite>[a-b][c-d]</cite></statement>, where [a-b] means that the
sentences from a to b (both included; [a-a] for one) support the text. Cite at most three spans for a statement, and
leave <cite></cite> empty where nothing needs support: an introduction, a conclusion, your own reasoning. Answer in the
language of the question.

Example. Document: <C0>The mill was built in 1811. <C1>It burned down twice. <C2>Its owner was Ida Moor.
Question: Who owned the mill, and how old is it?
Answer: <statement>Here is what the document says.<cite></cite></statement><statement>Ida Moor owned the mill, which was
built in 1811.<cite>[0-0][2-2]</cite></statement>

<document>
{{context}}
</document>

Question: {{query}}
Answer:""",
    "plain": """Answer a question about a document, in the language of the question.

<document>
{{context}}
</document>

Question: {{query}}
Answer:""",
    "support": """A question was asked about a long document. Below is one statement of an answer, and the passage
of the document that it cites. How far does the passage support the statement? Use nothing but the passage.

[[Fully supported]]: nearly all that the statement says is in the passage.
[[Partially supported]]: more than half is, but some of it is missing there or contradicted.
[[No support]]: the passage is about something else, or most of the statement is not in it.

<question>
{{query}}
</question>
<statement>
{{statement}}
</statement>
<passage>
{{snippet}}
</passage>

Answer with one of the three labels, in its double brackets, and nothing else.""",
    "relevance": """A question was asked about a long document. Below is one statement of an answer, and a passage
of the document that it cites. Does the passage hold at least one key point of the statement? Use nothing
but the passage.

<question>
{{query}}
</question>
<statement>
{{statement}}
</statement>
<passage>
{{snippet}}
</passage>

Answer [[Relevant]] or [[Unrelevant]], with its double brackets, and nothing else.""",
    "need": """A question was asked about a long document. Below are the answer, and one sentence of it that cites
nothing. Does this sentence state something from the document, so that it needs a citation? An introduction, a
transition, a summary of what the answer said before, or a conclusion drawn from it needs none.

<question>
{{query}}
</question>
<answer>
{{answer}}
</answer>
<sentence>
{{statement}}
</sentence>

Answer [[Yes]] or [[No]], with its double brackets, and nothing else.""",
    "correct_qa": """Rate an answer against a reference: is it right, and does it cover all points of the reference?

[[1]]: wrong, or about something else. [[2]]: partly right. [[3]]: right and complete.

<question>
{{query}}
</question>
<reference>
{{reference}}
</reference>
<answer>
{{answer}}
</answer>

Answer with the rating in its double brackets, and nothing else.""",
    "correct_summary": """Rate a summary against a reference: is it right, does it cover the points of the reference,
does it hold together? From [[1]] (worst) to [[5]] (best), in whole numbers.

<reference>
{{reference}}
</reference>
<summary>
{{answer}}
</summary>

Answer with the rating in its double brackets, and nothing else.""",
    "correct_chat": """Rate an answer to a question from 1 (worst) to 10 (best), in whole numbers. What counts most is
whether it is right by the reference; then whether it helps who asked; what it adds must be right and to the point.

<question>
{{query}}
</question>
<reference>
{{reference}}
</reference>

Answers that were rated before, for the scale:

{{anchors}}

<answer>
{{answer}}
</answer>

Answer with the rating in double brackets, such as [[5]], and nothing else.""",
}
