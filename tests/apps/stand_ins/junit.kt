package org.junit

@Target(AnnotationTarget.FUNCTION) annotation class Test
