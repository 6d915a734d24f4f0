"""What models are asked: texts, tasks and how their answers count."""
